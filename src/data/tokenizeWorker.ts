/** A thread of the pool in tokenizePool.ts: tokenises the rows that it is sent. */
import { parentPort, workerData } from "node:worker_threads";
import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";
import { type Stage, tokenizeRows } from "./tokenize.js";
import { PLACE, STAGES, type WorkerAnswer, type WorkerStart } from "./tokenizePool.js";
import { Tokenizer } from "./tokenizer.js";

const { folder, options, place } = workerData as WorkerStart;
const tokenizer = Tokenizer.load(folder);
tokenizer.catch(() => {}); // told with the first answer

const onStage = (row: number, stage: Stage) => {
  Atomics.store(place, PLACE.row, row);
  Atomics.store(place, PLACE.stage, STAGES.indexOf(stage));
  Atomics.add(place, PLACE.moves, 1);
};

async function answer(rows: readonly Row[]): Promise<void> {
  try {
    const part = tokenizeRows(rows, await tokenizer, options, onStage);
    const buffers = part.examples.flatMap(({ inputIds, labels }) => [inputIds.buffer, labels.buffer]) as ArrayBuffer[];
    parentPort!.postMessage({ part } satisfies WorkerAnswer, buffers);
  } catch (error) {
    const { message, stack } = error as Error;
    const failure = { message, stack, userError: error instanceof UserError };
    parentPort!.postMessage({ failure } satisfies WorkerAnswer);
  }
}

let last = Promise.resolve();
parentPort!.on("message", (rows: Row[]) => {
  last = last.then(() => answer(rows));
});
