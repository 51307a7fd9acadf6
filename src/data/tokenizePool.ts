/**
 * Tokenising in worker threads: the same examples in the same order as in this thread, which stays free. A thread can be
 * ended whatever it does, and has memory of its own: chat templates and patterns come with models that anybody wrote.
 */

import { fileURLToPath } from "node:url";
import { getHeapStatistics } from "node:v8";
import { Worker } from "node:worker_threads";
import { needAddressSpace } from "../support/addressSpace.js";
import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";
import { joinTokenized, type Stage, type TokenizedDataset, type TokenizeOptions } from "./tokenize.js";

/** What a worker is started with, gets and gives. */
export interface WorkerStart {
  folder: string;
  options: TokenizeOptions;
  place: Int32Array;
}
export type WorkerAnswer =
  | { part: TokenizedDataset; failure?: never }
  | { failure: { message: string; stack?: string; userError: boolean } };

/** What a worker tells while it works, in memory that both threads see: its row, what it does with it, how often it moved. */
export const PLACE = { row: 0, stage: 1, moves: 2 } as const;
export const STAGES: readonly (Stage | "loading")[] = ["loading", "template", "tokenizer"];

const ROWS_AT_ONCE = 128;
/** The next rows wait in the thread while it works. */
const ASKED_AT_ONCE = 2;
/** A row may take so long, and a second more for so many characters: many times what the slowest machine needs. */
const ROW_SECONDS = 30;
const CHARACTERS_PER_SECOND = 50_000;
// A worker runs compiled code, also when this file is run from its source by the tests.
const workerFile = fileURLToPath(new URL("../../dist/data/tokenizeWorker.js", import.meta.url));

export interface PoolOptions {
  /** Model folder with the tokenizer. */
  folder: string;
  options: TokenizeOptions;
  workers: number;
  rowSeconds?: number;
  /** Of each thread. Default: as much as this one may have; beyond it the thread ends, not the process. */
  heapMiB?: number;
}

export interface Work {
  rows: readonly Row[];
  /** The files of the chat templates, for messages. */
  templates: string;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** What V8 reserves for a thread: with less it ends the process. */
const THREAD_ADDRESS_SPACE = 850 * 2 ** 20;

const ownHeapMiB = () => Math.round(getHeapStatistics().heap_size_limit / 2 ** 20);

/** Threads that are loading the tokenizer while its owner reads the rows. */
export class TokenizerPool implements AsyncDisposable {
  readonly #folder: string;
  readonly #rowSeconds: number;
  readonly #threads: Thread[];

  constructor({ folder, options, workers, rowSeconds = ROW_SECONDS, heapMiB = ownHeapMiB() }: PoolOptions) {
    this.#folder = folder;
    this.#rowSeconds = rowSeconds;
    this.#threads = Array.from({ length: workers }, () => new Thread(folder, options, heapMiB));
  }

  /**
   * Tokenises rows.
   * @throws what `tokenizeRows` would throw: of several bad rows, the first is named; UserError for a row that takes too
   * long or too much memory; the reason of `signal` when it aborts
   */
  async tokenize({ rows, templates, onProgress, signal }: Work): Promise<TokenizedDataset> {
    const count = Math.ceil(rows.length / ROWS_AT_ONCE);
    const parts: TokenizedDataset[] = new Array(count);
    let next = 0;
    let end = count; // the first part that failed: those after it are not needed
    let failure: unknown;
    let done = 0;
    const work = async (thread: Thread) => {
      while (next < end) {
        const index = next++;
        const chunk = rows.slice(index * ROWS_AT_ONCE, (index + 1) * ROWS_AT_ONCE);
        const answer = await thread.ask(chunk);
        if (answer.failure) {
          if (index < end) [end, failure] = [index, asError(answer.failure)];
          continue;
        }
        parts[index] = answer.part;
        done += chunk.length;
        onProgress?.(done, rows.length);
      }
    };
    let giveUp = (_reason: unknown) => {};
    const ended = new Promise<never>((_, reject) => {
      giveUp = reject;
    });
    const abort = () => giveUp(signal!.reason);
    const watch = setInterval(() => {
      const stuck = this.#threads.find((thread) => thread.isStuck(this.#rowSeconds));
      if (stuck) giveUp(this.#explain(stuck, `has not ended after ${stuck.seconds} seconds`, templates));
    }, 1000);
    try {
      signal?.throwIfAborted();
      signal?.addEventListener("abort", abort);
      const loops = this.#threads.flatMap((thread) => Array.from({ length: ASKED_AT_ONCE }, () => work(thread)));
      await Promise.race([Promise.all(loops), ended]);
      if (end < count) throw failure;
      return joinTokenized(parts);
    } catch (error) {
      const starved = this.#threads.find((thread) => thread.outOfMemory);
      if (starved && !signal?.aborted)
        throw this.#explain(starved, "takes all memory that a thread may have", templates);
      throw error;
    } finally {
      clearInterval(watch);
      signal?.removeEventListener("abort", abort);
    }
  }

  #explain({ stage, row }: Thread, what: string, templates: string): UserError {
    const file = `${this.#folder}/tokenizer.json`;
    if (stage === "loading") return new UserError(`${file}: loading it ${what}. Take the file of another source.`);
    const suspect =
      stage === "template" ? `the chat template (${templates})` : `a pattern in ${file}, or the length of the row,`;
    return new UserError(
      `${row?.source}: tokenising this row ${what}: ${suspect} is to blame. Correct it, or leave the row out.`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }
}

interface Question {
  rows: readonly Row[];
  resolve: (answer: WorkerAnswer) => void;
  reject: (reason: unknown) => void;
}

class Thread {
  outOfMemory = false;
  /** How long it has been where it is, in full seconds: counted by looks at it, so that a sleeping machine does not count. */
  seconds = 0;
  readonly #worker: Worker;
  readonly #place = new Int32Array(new SharedArrayBuffer(12));
  readonly #questions: Question[] = [];
  #moves = 0;
  #death: Error | undefined;

  constructor(folder: string, options: TokenizeOptions, heapMiB: number) {
    needAddressSpace("A tokenising thread", THREAD_ADDRESS_SPACE);
    const start: WorkerStart = { folder, options, place: this.#place };
    this.#worker = new Worker(workerFile, {
      workerData: start,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: heapMiB },
    });
    this.#worker.on("message", (answer: WorkerAnswer) => this.#questions.shift()!.resolve(answer));
    this.#worker.on("error", (error: NodeJS.ErrnoException) => {
      this.outOfMemory = error.code === "ERR_WORKER_OUT_OF_MEMORY";
      this.#die(error);
    });
    this.#worker.on("exit", (code) => this.#die(new Error(`a tokenising thread ended with status ${code}`)));
  }

  ask(rows: readonly Row[]): Promise<WorkerAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#death) return reject(this.#death);
      try {
        this.#worker.postMessage(rows);
      } catch (error) {
        return reject(explainUnsent(rows, error));
      }
      this.#questions.push({ rows, resolve, reject });
    });
  }

  get stage(): Stage | "loading" {
    return STAGES[Atomics.load(this.#place, PLACE.stage)]!;
  }

  /** What it works on. */
  get row(): Row | undefined {
    return this.#questions[0]?.rows[Atomics.load(this.#place, PLACE.row)];
  }

  /** To be asked once a second. */
  isStuck(rowSeconds: number): boolean {
    const moves = Atomics.load(this.#place, PLACE.moves);
    this.seconds = this.#questions.length > 0 && moves === this.#moves ? this.seconds + 1 : 0;
    this.#moves = moves;
    if (this.seconds <= rowSeconds) return false;
    return this.seconds > rowSeconds + charactersOf(this.row?.fields) / CHARACTERS_PER_SECOND;
  }

  terminate(): Promise<number> {
    return this.#worker.terminate();
  }

  #die(error: Error): void {
    this.#death ??= error;
    for (const { reject } of this.#questions) reject(this.#death);
  }
}

/** Of all texts in a value, however deep. */
function charactersOf(value: unknown): number {
  let characters = 0;
  const left = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (typeof next === "string") characters += next.length;
    else if (typeof next === "object" && next !== null) for (const part of Object.values(next)) left.push(part);
  }
  return characters;
}

/** Values that are nested thousands deep, or are no data (functions, promises), cannot be copied to another thread. */
function explainUnsent(rows: readonly Row[], error: unknown): unknown {
  for (const { fields, source } of rows) {
    try {
      structuredClone(fields);
    } catch (reason) {
      const why = reason instanceof RangeError ? "is nested too deeply" : "cannot be given to another thread";
      return new UserError(`${source}: the row ${why}: ${(reason as Error).message}`, { cause: reason });
    }
  }
  return error;
}

function asError({ message, stack, userError }: NonNullable<WorkerAnswer["failure"]>): Error {
  if (userError) return new UserError(message);
  return Object.assign(new Error(message), { stack });
}
