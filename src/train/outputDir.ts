/** Whether a run may write into its output_dir. */
import { mkdir, readdir } from "node:fs/promises";
import { UserError } from "../errors.js";

/** Files that are nobody's result: logs that a shell writes beside the run, and hidden files. */
const harmless = (name: string) => name.startsWith(".") || name.endsWith(".log");

/**
 * Makes the folder. A new run wants it empty, so that no earlier result is mixed with or lost to the new one.
 * @throws UserError naming what lies there and the ways on
 */
export async function openOutputDir(path: string, resuming: boolean): Promise<void> {
  let names: string[];
  try {
    await mkdir(path, { recursive: true });
    names = (await readdir(path)).filter((name) => !harmless(name));
  } catch (error) {
    throw new UserError(`output_dir: ${path} cannot be used: ${(error as Error).message}`);
  }
  if (resuming || names.length === 0) return;
  const shown = names.slice(0, 4).join(", ") + (names.length > 4 ? ", ..." : "");
  const resume = names.some((name) => /^checkpoint-\d+$/.test(name))
    ? " Continue the run in it with --resume_from_checkpoint true, or"
    : "";
  throw new UserError(
    `output_dir: ${path} is not empty (${shown}).${resume} ${resume ? "choose" : "Choose"} another output_dir, or remove it first.`,
  );
}
