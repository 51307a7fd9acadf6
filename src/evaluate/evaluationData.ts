/** The examples that a model is measured on. */

import type { TrainingArguments } from "../arguments/index.js";
import type { DatasetSpec } from "../data/config.js";
import { type ExampleSource, type LoadedExamples, loadExamples } from "../data/examples.js";
import { UserError } from "../support/errors.js";

/** Whether a run measures its model at all. */
export const evaluates = ({ eval_strategy, eval_on_start }: TrainingArguments) =>
  eval_strategy !== "no" || eval_on_start;

/** Loads a dataset as the one to train on is, packed only as `eval_packing` says. @throws UserError naming eval_dataset */
export async function loadEvaluation(
  dataset: DatasetSpec,
  source: ExampleSource,
  args: TrainingArguments,
  signal?: AbortSignal,
): Promise<LoadedExamples> {
  try {
    return await loadExamples(dataset, source, args, args.eval_packing ?? args.packing, signal);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`eval_dataset: ${error.message.replace(/^dataset:? /, "")}`, { cause: error });
  }
}
