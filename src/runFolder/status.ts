/** status.json: how a run stands, for whoever looks into its folder. */

import { rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { putBack, textOf } from "../support/durable.js";
import { isAlive, thisProcess } from "../support/process.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { controlAnswerSchema } from "./control.js";
import { STATUS } from "./files.js";

const PHASES = [
  "preparing",
  "training",
  "evaluating",
  "saving",
  "paused",
  "finished",
  "interrupted",
  "failed",
] as const;

const figure = z.number().nullable();

export const statusSchema = z.object({
  format: z.literal(1),
  run: z.string().describe("The id in run.json."),
  pid: z.int(),
  host: z.string(),
  started: z.string().describe("Of the process, as the system has it: a later process may get the same pid."),
  updated: z.string().describe("When this was written, ISO 8601."),
  phase: z.enum(PHASES),
  step: z.int().describe("Finished updates, of max_steps; both 0 until the data is read."),
  max_steps: z.int(),
  epoch: z.number(),
  loss: figure.describe("Of the last update; null before the first."),
  learning_rate: figure,
  tokens_per_second: figure,
  seconds_left: figure.describe("Until the last update, at the speed so far."),
  memory: z
    .object({ resident: z.number(), device: z.number().optional() })
    .describe("Bytes: of the process now, and at most so far of a GPU's tensors."),
  checkpoint: z.string().nullable().describe("The newest one that this run saved or went on from."),
  error: z.string().nullable().describe("Why it failed."),
  answers: z.array(controlAnswerSchema).describe("To the last lines of control.jsonl."),
});
/** What status.json holds: how a run stands. */
export type Status = z.output<typeof statusSchema>;
/** What a run is doing. */
export type Phase = Status["phase"];

/** Written at most this often, but for changes of phase and answers; and this often even where nothing changed. */
const EVERY_MS = 1_000;
const HEARTBEAT_MS = 10_000;
/** A run on another machine that has not written for this long is dead. */
const SILENT_MS = 60_000;

const OVER: readonly Phase[] = ["finished", "interrupted", "failed"];
const MOST_ANSWERS = 50;

/** Keeps status.json current. A disk that refuses is told once, and nothing else fails. */
export class StatusWriter {
  readonly #path: string;
  readonly #before: string | undefined;
  readonly #log: (line: string) => void;
  #status: Status;
  #writing: Promise<void> = Promise.resolve();
  #queued = false;
  #writtenAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  readonly #heartbeat: NodeJS.Timeout;
  #told = false;

  private constructor(path: string, before: string | undefined, run: string, log: (line: string) => void) {
    this.#path = path;
    this.#before = before;
    this.#log = log;
    this.#status = {
      format: 1,
      run,
      ...thisProcess(),
      updated: "",
      phase: "preparing",
      step: 0,
      max_steps: 0,
      epoch: 0,
      loss: null,
      learning_rate: null,
      tokens_per_second: null,
      seconds_left: null,
      memory: { resident: 0 },
      checkpoint: null,
      error: null,
      answers: [],
    };
    this.#heartbeat = setInterval(() => this.#write(), HEARTBEAT_MS);
    this.#heartbeat.unref();
    this.#write();
  }

  static async open(folder: string, run: string, log: (line: string) => void): Promise<StatusWriter> {
    const path = join(folder, STATUS);
    return new StatusWriter(path, await textOf(path), run, log);
  }

  /** Finished updates. */
  get step(): number {
    return this.#status.step;
  }

  /** Takes figures up; a change of phase and an answer are written at once. */
  update(change: Partial<Omit<Status, "answers">>): void {
    const turned = change.phase !== undefined && change.phase !== this.#status.phase;
    Object.assign(this.#status, change);
    if (turned) this.#write();
    else this.#writeSoon();
  }

  answer(answer: Status["answers"][number]): void {
    this.#status.answers = [...this.#status.answers, answer].slice(-MOST_ANSWERS);
    this.#write();
  }

  /** In the phase while `work` goes on, then in the one before. */
  async during<T>(phase: Phase, work: () => Promise<T>): Promise<T> {
    const before = this.#status.phase;
    this.update({ phase });
    try {
      return await work();
    } finally {
      this.update({ phase: before });
    }
  }

  /** The last word; settles when it is written. */
  async end(change: Partial<Omit<Status, "answers">>): Promise<void> {
    Object.assign(this.#status, change);
    this.#write();
    await this.#close();
  }

  /** The run never began: the file is again what it was. */
  async takeBack(): Promise<void> {
    await this.#close();
    await putBack(this.#path, this.#before);
  }

  async #close(): Promise<void> {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#timer);
    await this.#writing;
  }

  #writeSoon(): void {
    if (this.#timer) return;
    const wait = this.#writtenAt + EVERY_MS - performance.now();
    this.#timer = setTimeout(() => this.#write(), Math.max(0, wait));
    this.#timer.unref();
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#queued) return; // the write that waits for its turn takes this change along
    this.#queued = true;
    this.#writtenAt = performance.now();
    this.#writing = this.#writing.then(async () => {
      this.#queued = false;
      this.#status.updated = new Date().toISOString();
      this.#status.memory = { ...this.#status.memory, resident: process.memoryUsage.rss() };
      try {
        await writeFile(`${this.#path}.partial`, `${JSON.stringify(this.#status, null, 2)}\n`);
        await rename(`${this.#path}.partial`, this.#path);
      } catch (error) {
        if (!this.#told) this.#log(`${this.#path}: ${(error as Error).message}. Training goes on without it.`);
        this.#told = true;
      }
    });
  }
}

/** The status of a folder's run; undefined where there is none that can be read. */
export async function readStatus(folder: string): Promise<Status | undefined> {
  try {
    return statusSchema.parse(JSON.parse((await readRegularFile(join(folder, STATUS), FILE_LIMITS.config)).toString()));
  } catch {
    return undefined;
  }
}

/** The phase, but "dead" for a run that says it goes on and does not. */
export async function phaseNow(folder: string, status: Status): Promise<Phase | "dead"> {
  if (OVER.includes(status.phase)) return status.phase;
  const alive = isAlive(status);
  if (alive !== undefined) return alive ? status.phase : "dead";
  const written = await stat(join(folder, STATUS)).catch(() => undefined);
  return written !== undefined && Date.now() - written.mtimeMs < SILENT_MS ? status.phase : "dead";
}
