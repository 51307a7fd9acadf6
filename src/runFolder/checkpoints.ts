/** The checkpoint-N folders of an output_dir: written aside and renamed, found newest first, rotated. */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "../support/errors.js";
import { OPTIMIZER } from "../train/saving/resumable.js";
import { damage, MANIFEST, seal, sync } from "./manifest.js";

const ASIDE = ".checkpoint-";
/** A file of the final model that was not whole yet. */
const TEMPORARY = /^\..+\.[0-9a-f]{12}\.tmp$/;

export interface CheckpointFolder {
  step: number;
  path: string;
}

/** All checkpoint-N folders, oldest first. */
export async function listCheckpoints(outputDir: string): Promise<CheckpointFolder[]> {
  const names = await readdir(outputDir).catch(() => []);
  return names
    .map((name) => ({ name, match: /^checkpoint-(\d+)$/.exec(name) }))
    .filter(({ match }) => match)
    .map(({ name, match }) => ({ step: Number(match![1]), path: join(outputDir, name) }))
    .sort((a, b) => a.step - b.step);
}

/**
 * Writes checkpoint-N: `fill` puts its files into a folder aside, which is flushed to disk and renamed. Until then
 * nothing of that name changes, so that a crash or a full disk leaves every earlier checkpoint as it was.
 */
export async function writeCheckpoint(
  outputDir: string,
  step: number,
  fill: (folder: string) => Promise<void>,
): Promise<string> {
  const path = join(outputDir, `checkpoint-${step}`);
  const aside = join(outputDir, `${ASIDE}${step}-${randomBytes(4).toString("hex")}`);
  try {
    await mkdir(aside); // not its parent: an output_dir that has vanished is no place to save
    await fill(aside);
    await seal(aside);
    await discard(path);
    await rename(aside, path);
    await sync(outputDir);
    return path;
  } catch (error) {
    await rm(aside, { recursive: true, force: true }).catch(() => {});
    if (!(error as NodeJS.ErrnoException).code && !(error instanceof UserError)) throw error;
    throw new UserError(
      `output_dir: checkpoint-${step} cannot be saved in ${outputDir}: ${(error as Error).message.replace(/\.$/, "")}. Earlier checkpoints are untouched; make room or choose another output_dir, and continue with --resume_from_checkpoint true.`,
      { cause: error },
    );
  }
}

/** Removes a checkpoint; killed in the middle, it leaves no half of one under its name. */
async function discard(path: string): Promise<void> {
  const aside = join(dirname(path), `${ASIDE}${randomBytes(8).toString("hex")}`);
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}

/** Removes what a killed process left aside. */
export async function removeUnfinished(outputDir: string): Promise<void> {
  for (const name of await readdir(outputDir).catch(() => [])) {
    if (name.startsWith(ASIDE) || TEMPORARY.test(name))
      await rm(join(outputDir, name), { recursive: true, force: true });
  }
}

/**
 * Keeps `limit` checkpoints: the one of update `saved` and the best always, and of the others the newest. Those of later
 * updates are the oldest: the run went on from before them, because they were damaged or because it was told to.
 */
export async function rotate(
  outputDir: string,
  saved: number,
  limit: number | null,
  best: string | null = null,
): Promise<void> {
  if (limit === null) return;
  const all = await listCheckpoints(outputDir);
  const checkpoints = [...all.filter(({ step }) => step > saved), ...all.filter(({ step }) => step <= saved)];
  const others = checkpoints.filter(({ step, path }) => step !== saved && !isFolder(path, best));
  const room = Math.max(0, limit - (checkpoints.length - others.length));
  for (const { path } of others.slice(0, Math.max(0, others.length - room))) await discard(path);
}

const isFolder = (path: string, other: string | null) => other !== null && basename(path) === basename(other);

/** Removes all checkpoints but one. */
export async function keepOnly(outputDir: string, best: string): Promise<void> {
  for (const { path } of await listCheckpoints(outputDir)) {
    if (!isFolder(path, best)) await discard(path);
  }
}

/** Why a run cannot go on from the folder, or undefined when it can. */
async function obstacle(path: string): Promise<string | undefined> {
  const reason = await damage(path);
  if (reason) return `is damaged: ${reason}`;
  const resumable = await stat(join(path, OPTIMIZER)).catch(() => undefined);
  return resumable ? undefined : "was saved with save_only_model, without the optimizer's state";
}

/**
 * The checkpoint to resume from: the newest whose files are what its manifest says, or the named one.
 * @param wanted true, or a checkpoint's path
 * @throws UserError when there is none, or the named one is damaged
 */
export async function findCheckpoint(
  outputDir: string,
  wanted: true | string,
  log: (line: string) => void,
): Promise<CheckpointFolder> {
  if (wanted !== true) {
    const step = Number(/checkpoint-(\d+)\/?$/.exec(wanted)?.[1] ?? Number.NaN);
    if (!Number.isInteger(step) || !(await stat(join(wanted, MANIFEST)).catch(() => undefined))) {
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
    const reason = await obstacle(checkpoint.path);
    if (!reason) return checkpoint;
    log(`Checkpoint ${checkpoint.path} ${reason}. It is left alone.`);
  }
  throw new UserError(
    `resume_from_checkpoint: there is no ${checkpoints.length ? "usable " : ""}checkpoint in output_dir ${outputDir}. Leave resume_from_checkpoint out to start from the beginning.`,
  );
}
