/** The checkpoint-N folders of an output_dir: written aside and renamed, found newest first, rotated. */
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { sync } from "../support/durable.js";
import { UserError } from "../support/errors.js";
import { DamagedCheckpoint, readCheckpointState } from "./checkpointState.js";
import {
  ASIDE,
  type Aside,
  asideName,
  checkpointName,
  checkpointStep,
  isPartial,
  MANIFEST,
  OPTIMIZER,
  RNG,
  readAsideName,
  TRAINER_STATE,
} from "./files.js";
import { damage, looksWhole, seal } from "./manifest.js";

export interface CheckpointFolder {
  step: number;
  path: string;
}

/** All checkpoint-N folders, oldest first. */
export async function listCheckpoints(outputDir: string): Promise<CheckpointFolder[]> {
  const names = await readdir(outputDir).catch(() => []);
  return names
    .flatMap((name) => {
      const step = checkpointStep(name);
      return step === undefined ? [] : [{ step, path: join(outputDir, name) }];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * Writes checkpoint-N: `fill` puts its files into a folder aside, which is flushed to disk and renamed. An older one of
 * that name is moved aside only when the new one is whole, and removed only when that has its name: a crash or a full
 * disk at any moment leaves one of the two.
 */
export async function writeCheckpoint(
  outputDir: string,
  step: number,
  fill: (folder: string) => Promise<void>,
): Promise<string> {
  const path = join(outputDir, checkpointName(step));
  const made = join(outputDir, asideName(step, "new"));
  try {
    await mkdir(made); // not its parent: an output_dir that has vanished is no place to save
    await fill(made);
    await seal(made);
    await replaceFolder(made, path);
    await sync(outputDir);
    return path;
  } catch (error) {
    await rm(made, { recursive: true, force: true }).catch(() => {});
    if (!(error as NodeJS.ErrnoException).code && !(error instanceof UserError)) throw error;
    const reason = (error as Error).message.replace(/\.$/, "");
    throw new UserError(
      `output_dir: ${checkpointName(step)} cannot be saved in ${outputDir}: ${reason}. Make room or choose another output_dir. ${await adviceToGoOn(outputDir)}`,
      { cause: error },
    );
  }
}

/** How a run that could not write goes on: from its newest checkpoint, where it has one. */
export async function adviceToGoOn(outputDir: string): Promise<string> {
  const newest = (await listCheckpoints(outputDir)).at(-1);
  return newest
    ? `Earlier checkpoints are untouched: continue from ${basename(newest.path)} with --resume_from_checkpoint true.`
    : "There is no checkpoint yet, so that the run starts from the beginning.";
}

/** Gives `made` the name `path`; the folder that had it goes last, or has it again when that fails. */
async function replaceFolder(made: string, path: string): Promise<void> {
  const old = await moveAside(path, "old");
  try {
    await rename(made, path);
  } catch (error) {
    if (old) await rename(old, path);
    throw error;
  }
  if (old) await rm(old, { recursive: true, force: true });
}

/** undefined when there is no such folder */
async function moveAside(path: string, why: Aside): Promise<string | undefined> {
  const old = join(dirname(path), asideName(checkpointStep(basename(path))!, why));
  try {
    await rename(path, old);
    return old;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Removes a checkpoint; killed in the middle, it leaves no half of one under its name. */
async function discard(path: string): Promise<void> {
  const old = await moveAside(path, "gone");
  if (old) await rm(old, { recursive: true, force: true });
}

/**
 * Puts right what a killed process left: a whole checkpoint whose place is empty gets its name, and what was half written
 * goes. Names that are not surely a run's own are left alone.
 */
export async function tidy(outputDir: string): Promise<void> {
  const names = await readdir(outputDir).catch(() => []);
  // A new one before the old one that it replaces: the first to find the place empty takes it.
  for (const wanted of ASIDE) {
    for (const name of names) {
      const { step, why } = readAsideName(name) ?? {};
      if (step === undefined || why !== wanted) continue;
      const path = join(outputDir, name);
      const place = join(outputDir, checkpointName(step));
      const empty = why !== "gone" && (await stat(place).catch(() => undefined)) === undefined;
      if (empty && (await damage(path)) === undefined) await rename(path, place);
      else await rm(path, { recursive: true, force: true });
    }
  }
  for (const name of names) if (isPartial(name)) await rm(join(outputDir, name), { force: true });
}

/**
 * Keeps `limit` checkpoints: the one of update `saved` and the best always, and of the others the newest. Those of later
 * updates are the oldest: the run went on from before them, because they were damaged or because it was told to. Damaged
 * ones are left to the person, and do not count.
 */
export async function rotate(
  outputDir: string,
  saved: number,
  limit: number | null,
  best: string | null = null,
  damaged: ReadonlySet<string> = new Set(),
): Promise<void> {
  if (limit === null) return;
  const all = await wholeCheckpoints(outputDir, damaged);
  const checkpoints = [...all.filter(({ step }) => step > saved), ...all.filter(({ step }) => step <= saved)];
  const others = checkpoints.filter(({ step, path }) => step !== saved && !isFolder(path, best));
  const room = Math.max(0, limit - (checkpoints.length - others.length));
  for (const { path } of others.slice(0, Math.max(0, others.length - room))) await discard(path);
}

/** Those that are not known to be damaged, and do not look so. */
async function wholeCheckpoints(outputDir: string, damaged: ReadonlySet<string>): Promise<CheckpointFolder[]> {
  const whole: CheckpointFolder[] = [];
  for (const checkpoint of await listCheckpoints(outputDir)) {
    if (!damaged.has(checkpoint.path) && (await looksWhole(checkpoint.path))) whole.push(checkpoint);
  }
  return whole;
}

const isFolder = (path: string, other: string | null) => other !== null && basename(path) === basename(other);

/** Removes all checkpoints but one, and but the damaged ones. */
export async function keepOnly(
  outputDir: string,
  best: string,
  damaged: ReadonlySet<string> = new Set(),
): Promise<void> {
  for (const { path } of await wholeCheckpoints(outputDir, damaged)) {
    if (!isFolder(path, best)) await discard(path);
  }
}

/** Why a run cannot go on from the folder, or undefined when it can. */
async function obstacle(path: string): Promise<string | undefined> {
  const reason = await damage(path);
  if (reason) return `is damaged: ${reason}`;
  const names = await readdir(path);
  if (!names.includes(OPTIMIZER)) return "was saved with save_only_model, without the optimizer's state";
  if (!names.includes(RNG)) return `is damaged: it has no ${RNG}`;
  try {
    await readCheckpointState(path);
    return undefined;
  } catch (error) {
    if (!(error instanceof DamagedCheckpoint)) throw error;
    return `is damaged: ${error.message}`;
  }
}

/**
 * The checkpoint to resume from: the newest whose files are what its manifest says, or the named one.
 * @param wanted true, or a checkpoint's path
 * @param damaged paths of damaged ones that are known already; those that are found are added
 * @throws UserError when there is none, or the named one is damaged
 */
export async function findCheckpoint(
  outputDir: string,
  wanted: true | string,
  log: (line: string) => void,
  damaged: Set<string> = new Set(),
): Promise<CheckpointFolder> {
  if (wanted !== true) {
    const step = checkpointStep(basename(wanted));
    if (step === undefined || !(await stat(join(wanted, MANIFEST)).catch(() => undefined))) {
      throw new UserError(
        `resume_from_checkpoint: ${wanted} is no checkpoint of slimtune (a folder checkpoint-N with a ${MANIFEST}). Use true for the newest in output_dir.`,
      );
    }
    const reason = await obstacle(wanted);
    if (reason) throw new UserError(`resume_from_checkpoint: ${wanted} ${reason}. Use another checkpoint.`);
    return { step, path: wanted };
  }
  const checkpoints = await listCheckpoints(outputDir);
  for (const checkpoint of checkpoints.reverse()) {
    if (damaged.has(checkpoint.path)) continue;
    const reason = await obstacle(checkpoint.path);
    if (!reason) return checkpoint;
    log(`Checkpoint ${checkpoint.path} ${reason}. It is left alone.`);
    damaged.add(checkpoint.path);
  }
  if (checkpoints.length === 0 && (await readdir(outputDir)).includes(TRAINER_STATE)) {
    throw new UserError(
      `resume_from_checkpoint: the run in ${outputDir} has finished and kept no checkpoint: nothing is left to do. For a new run, move it aside with --overwrite_output_dir true, or choose another output_dir.`,
    );
  }
  throw new UserError(
    `resume_from_checkpoint: there is no ${checkpoints.length ? "usable " : ""}checkpoint in output_dir ${outputDir}. Leave resume_from_checkpoint out to start from the beginning.`,
  );
}
