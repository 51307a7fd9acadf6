/** Whether a run may write into its output_dir. */
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readdir, rename, rmdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { UserError } from "../support/errors.js";
import { type Lock, tryLock } from "../support/lock.js";
import { checkpointStep, isHarmless, LOCK, TRAINER_STATE } from "./files.js";

/** The folder of a run, held for one process. */
export interface OutputDir {
  /** Whether it was not there before. */
  made: boolean;
  lock: Lock;
  /** Where an earlier run went that lay there. */
  aside?: string;
  /** Undoes all of it: for a run that never began. */
  giveBack(): Promise<void>;
}

/** What a run does about one that lies in its folder already. */
export type Earlier = "refuse" | "resume" | "move aside";

/**
 * Makes the folder and holds it, so that no other run writes into it meanwhile. A new run wants it empty, so that no
 * earlier result is mixed with or lost to the new one.
 * @throws UserError naming who holds it, or what lies there, and the ways on
 */
export async function openOutputDir(path: string, earlier: Earlier): Promise<OutputDir> {
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
  let aside: string | undefined;
  const giveBack = async () => {
    if (aside !== undefined) await moveAll(aside, path).then(() => rmdir(aside!));
    lock.release();
    if (made) await rmdir(path).catch(() => {}); // as if it had never been
  };
  try {
    const results = (await readdir(path)).filter((name) => !isHarmless(name));
    if (earlier === "refuse") refuseResults(path, results);
    if (earlier === "move aside" && results.length > 0) {
      aside = await freeName(path);
      await moveAll(path, aside);
    }
    return { made, lock, ...(aside === undefined ? {} : { aside }), giveBack };
  } catch (error) {
    await giveBack().catch(() => {});
    if (error instanceof UserError) throw error;
    throw new UserError(`output_dir: ${path} cannot be moved aside: ${(error as Error).message}`, { cause: error });
  }
}

/** Makes the first of `path.1`, `path.2`, ... that is not there. */
async function freeName(path: string): Promise<string> {
  const base = path.replace(/[/\\]+$/, "");
  for (let number = 1; ; number++) {
    try {
      await mkdir(`${base}.${number}`);
      return `${base}.${number}`;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

/** Moves what lies in a folder, but for the lock: the run that moves it holds that. */
async function moveAll(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) if (name !== LOCK) await rename(join(from, name), join(to, name));
}

/** What `output_dir: auto` stands for. */
export const AUTO = "auto";
const NUMBERED = "runs";

/** `runs/1`, `runs/2`, ...: a number above all that are there, or the highest there is. @throws UserError without one */
export function numberedDir(which: "new" | "newest"): string {
  const names = existsSync(NUMBERED) ? readdirSync(NUMBERED) : [];
  const newest = Math.max(0, ...names.filter((name) => /^[1-9]\d{0,8}$/.test(name)).map(Number));
  if (which === "newest" && newest === 0) {
    throw new UserError(
      `output_dir: auto is the newest of ${NUMBERED}/1, ${NUMBERED}/2, ... here, and there is none yet.`,
    );
  }
  return join(NUMBERED, String(which === "new" ? newest + 1 : newest));
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

function refuseResults(path: string, names: readonly string[]): void {
  if (names.length === 0) return;
  const shown = names.slice(0, 4).join(", ") + (names.length > 4 ? ", ..." : "");
  const isRun = names.some((name) => name === TRAINER_STATE || checkpointStep(name) !== undefined);
  const resume = names.some((name) => checkpointStep(name) !== undefined)
    ? " Continue the run in it with --resume_from_checkpoint true,"
    : "";
  const move = isRun ? `${resume ? " move" : " Move"} it aside with --overwrite_output_dir true, or` : "";
  throw new UserError(
    `output_dir: ${path} is not empty (${shown}).${resume}${move} ${move ? "choose" : "Choose"} another output_dir${move ? " (auto: a new numbered one)" : ""}.`,
  );
}
