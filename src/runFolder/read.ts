/** Runs as others see them, by their folders alone. */

import { createReadStream } from "node:fs";
import { opendir, stat } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";

import { checkpointStep, METRICS, RUN, TRAINER_STATE } from "./files.js";
import { type RunRecord, readRecord } from "./record.js";
import { type LogEntry, type TrainerState, trainerStateSchema } from "./state.js";
import { type Phase, phaseNow, readStatus, type Status } from "./status.js";

/** One run. What is missing or cannot be read is undefined: a file may be half written, or of another program. */
export interface RunView {
  folder: string;
  record: RunRecord | undefined;
  status: Status | undefined;
  /** "dead": it says that it goes on, and does not. undefined: it left no status. */
  phase: Phase | "dead" | undefined;
}

/** The run in a folder; undefined where there is none. */
export async function readRun(folder: string): Promise<RunView | undefined> {
  const [record, status] = await Promise.all([readRecord(folder), readStatus(folder)]);
  if (!record && !status && !(await isFile(join(folder, TRAINER_STATE))) && !(await isFile(join(folder, RUN))))
    return undefined;
  return { folder, record, status, phase: status && (await phaseNow(folder, status)) };
}

/** How deep below the root runs are looked for. */
const DEEPEST = 4;
const AT_ONCE = 64;

/** All runs at or below a folder, in the order of their paths. Folders that cannot be read are passed over. */
export async function listRuns(root: string): Promise<RunView[]> {
  const runs: RunView[] = [];
  let level = [root];
  for (let depth = 0; depth <= DEEPEST && level.length > 0; depth++) {
    const next: string[] = [];
    for (let first = 0; first < level.length; first += AT_ONCE) {
      await Promise.all(
        level.slice(first, first + AT_ONCE).map(async (folder) => {
          const { folders, isRun } = await look(folder);
          const run = isRun ? await readRun(folder) : undefined;
          if (run) runs.push(run);
          next.push(...folders);
        }),
      );
    }
    level = next;
  }
  return runs.sort((a, b) => (a.folder < b.folder ? -1 : 1));
}

/** The folders in a folder that may hold runs, and whether it may be one itself. */
async function look(folder: string): Promise<{ folders: string[]; isRun: boolean }> {
  const folders: string[] = [];
  let isRun = false;
  try {
    for await (const entry of await opendir(folder)) {
      if (entry.isFile() && (entry.name === RUN || entry.name === TRAINER_STATE)) isRun = true;
      const skipped =
        entry.name.startsWith(".") || entry.name === "node_modules" || checkpointStep(entry.name) !== undefined;
      if (entry.isDirectory() && !skipped) folders.push(join(folder, entry.name));
    }
  } catch {
    // gone meanwhile, or not ours to read
  }
  return { folders, isRun };
}

/** The Trainer's state as of the last save; undefined before the first, and where it cannot be read. */
export async function readTrainerState(folder: string): Promise<TrainerState | undefined> {
  try {
    return trainerStateSchema.parse(
      JSON.parse((await readRegularFile(join(folder, TRAINER_STATE), FILE_LIMITS.state)).toString()),
    );
  } catch {
    return undefined;
  }
}

/** The entries of metrics.jsonl, in order; lines that are no entries (a half one at the end) are passed over. */
export async function* readMetrics(folder: string): AsyncGenerator<LogEntry> {
  const path = join(folder, METRICS);
  if (!(await isFile(path))) return;
  for await (const line of createInterface({ input: createReadStream(path, "utf8"), crlfDelay: Infinity })) {
    const entry = parseEntry(line);
    if (entry) yield entry;
  }
}

function parseEntry(line: string): LogEntry | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    if (typeof entry !== "object" || entry === null) return undefined;
    return Object.values(entry).every((value) => typeof value === "number") ? (entry as LogEntry) : undefined;
  } catch {
    return undefined;
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true;
}
