/** A thread of the pool in tokenizePool.ts: tokenises the rows that it is sent. */
import { parentPort, workerData } from "node:worker_threads";
import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";
import { tokenizeRows } from "./tokenize.js";
import type { WorkerAnswer, WorkerStart } from "./tokenizePool.js";
import { Tokenizer } from "./tokenizer.js";

const { folder, options } = workerData as WorkerStart;
const tokenizer = Tokenizer.load(folder);

parentPort!.on("message", async (rows: Row[]) => {
  try {
    const part = await tokenizeRows(rows, await tokenizer, options);
    const buffers = part.examples.flatMap(({ inputIds, labels }) => [inputIds.buffer, labels.buffer]) as ArrayBuffer[];
    parentPort!.postMessage({ part } satisfies WorkerAnswer, buffers);
  } catch (error) {
    const { message, stack } = error as Error;
    const failure = { message, stack, userError: error instanceof UserError };
    parentPort!.postMessage({ failure } satisfies WorkerAnswer);
  }
});
