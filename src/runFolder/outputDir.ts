/** Whether a run may write into its output_dir. */
import { mkdir, readdir } from "node:fs/promises";
import { METRICS } from "../callbacks/reporters/metricsFile.js";
import { RUNS } from "../callbacks/reporters/tensorboard.js";
import { UserError } from "../support/errors.js";
import { HEALTH_LOG } from "../train/health/watch.js";

/** Files that are nobody's result: logs that a shell or a run that saved nothing left, and hidden files. */
const harmless = (name: string) =>
  name.startsWith(".") || name.endsWith(".log") || [METRICS, HEALTH_LOG, RUNS].includes(name);

/**
 * Makes the folder. A new run wants it empty, so that no earlier result is mixed with or lost to the new one.
 * @returns whether it was not there before
 * @throws UserError naming what lies there and the ways on
 */
export async function openOutputDir(path: string, resuming: boolean): Promise<boolean> {
  let names: string[];
  let made: string | undefined;
  try {
    made = await mkdir(path, { recursive: true });
    names = (await readdir(path)).filter((name) => !harmless(name));
  } catch (error) {
    throw new UserError(`output_dir: ${path} cannot be used: ${(error as Error).message}`);
  }
  if (resuming || names.length === 0) return made !== undefined;
  const shown = names.slice(0, 4).join(", ") + (names.length > 4 ? ", ..." : "");
  const resume = names.some((name) => /^checkpoint-\d+$/.test(name))
    ? " Continue the run in it with --resume_from_checkpoint true, or"
    : "";
  throw new UserError(
    `output_dir: ${path} is not empty (${shown}).${resume} ${resume ? "choose" : "Choose"} another output_dir, or remove it first.`,
  );
}
