/** Tokenising in worker threads: the same examples in the same order as in this thread, which stays free. */
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";
import { joinTokenized, type TokenizedDataset, type TokenizeOptions } from "./tokenize.js";

/** What a worker is started with, gets and gives. */
export type WorkerOptions = Omit<TokenizeOptions, "onProgress" | "signal">;
export interface WorkerStart {
  folder: string;
  options: WorkerOptions;
}
export type WorkerAnswer =
  | { part: TokenizedDataset; failure?: never }
  | { failure: { message: string; stack?: string; userError: boolean } };

const ROWS_AT_ONCE = 128;
// A worker runs compiled code, also when this file is run from its source by the tests.
const workerFile = fileURLToPath(new URL("../../dist/data/tokenizeWorker.js", import.meta.url));

/**
 * Tokenises rows with `workers` threads, each with the tokenizer of the model folder.
 * @throws what `tokenizeRows` would throw: of several bad rows, the first is named
 */
export async function tokenizeInWorkers(
  rows: readonly Row[],
  folder: string,
  { onProgress, signal, ...options }: TokenizeOptions,
  workers: number,
): Promise<TokenizedDataset> {
  const count = Math.ceil(rows.length / ROWS_AT_ONCE);
  const parts: TokenizedDataset[] = new Array(count);
  let next = 0;
  let end = count; // the first part that failed: those after it are not needed
  let failure: unknown;
  let done = 0;
  const threads: Worker[] = [];

  const work = async () => {
    const start: WorkerStart = { folder, options };
    const worker = new Worker(workerFile, { workerData: start, execArgv: [] });
    threads.push(worker);
    while (next < end) {
      const index = next++;
      const chunk = rows.slice(index * ROWS_AT_ONCE, (index + 1) * ROWS_AT_ONCE);
      const answer = await ask(worker, chunk);
      if (answer.failure) {
        if (index < end) [end, failure] = [index, asError(answer.failure)];
        continue;
      }
      parts[index] = answer.part;
      done += chunk.length;
      onProgress?.(done, rows.length);
    }
  };
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal!.reason);
  });
  try {
    signal?.throwIfAborted();
    signal?.addEventListener("abort", abort);
    await Promise.race([Promise.all(Array.from({ length: Math.min(workers, count) }, work)), aborted]);
    if (end < count) throw failure;
    return joinTokenized(parts);
  } finally {
    signal?.removeEventListener("abort", abort);
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

function ask(worker: Worker, rows: readonly Row[]): Promise<WorkerAnswer> {
  return new Promise((resolve, reject) => {
    const died = (error: unknown) => reject(error);
    worker.once("error", died);
    worker.once("message", (answer: WorkerAnswer) => {
      worker.off("error", died);
      resolve(answer);
    });
    worker.postMessage(rows);
  });
}

function asError({ message, stack, userError }: NonNullable<WorkerAnswer["failure"]>): Error {
  if (userError) return new UserError(message);
  return Object.assign(new Error(message), { stack });
}
