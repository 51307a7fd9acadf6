/** Whether a run may write into its output_dir. */
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { UserError } from "../support/errors.js";
import { type Lock, tryLock } from "../support/lock.js";
import { checkpointStep, isHarmless, LOCK } from "./files.js";

/** The folder of a run, held for one process. */
export interface OutputDir {
  /** Whether it was not there before. */
  made: boolean;
  lock: Lock;
}

/**
 * Makes the folder and holds it, so that no other run writes into it meanwhile. A new run wants it empty, so that no
 * earlier result is mixed with or lost to the new one.
 * @throws UserError naming who holds it, or what lies there, and the ways on
 */
export async function openOutputDir(path: string, resuming: boolean): Promise<OutputDir> {
  let made = false;
  let lock: Lock | string;
  try {
    made = await makeFolder(resolve(path));
    lock = tryLock(join(path, LOCK));
  } catch (error) {
    throw new UserError(`output_dir: ${path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
  if (typeof lock === "string") {
    throw new UserError(
      `output_dir: ${path} is in use by another run (${lock}). Wait for it, stop it, or choose another output_dir.`,
    );
  }
  try {
    if (!resuming) refuseResults(path, await readdir(path));
    return { made, lock };
  } catch (error) {
    lock.release();
    if (made) await rmdir(path).catch(() => {});
    throw error;
  }
}

/** mkdir's own `recursive` never returns in a file system that refuses new folders as if their parent were missing (/proc). */
async function makeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") {
      await readdir(path); // a file of that name is no folder
      return false;
    }
    if (code !== "ENOENT" || dirname(path) === path) throw error;
  }
  await makeFolder(dirname(path));
  await mkdir(path);
  return true;
}

function refuseResults(path: string, all: readonly string[]): void {
  const names = all.filter((name) => !isHarmless(name));
  if (names.length === 0) return;
  const shown = names.slice(0, 4).join(", ") + (names.length > 4 ? ", ..." : "");
  const resume = names.some((name) => checkpointStep(name) !== undefined)
    ? " Continue the run in it with --resume_from_checkpoint true, or"
    : "";
  throw new UserError(
    `output_dir: ${path} is not empty (${shown}).${resume} ${resume ? "choose" : "Choose"} another output_dir, or remove it first.`,
  );
}
