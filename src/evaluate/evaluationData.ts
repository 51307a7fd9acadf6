/** The examples that a model is measured on. */

import type { TrainingArguments } from "../arguments/index.js";
import { type ExampleSource, type LoadedExamples, loadExamples } from "../data/examples.js";
import type { EvaluationRows } from "../data/runData.js";
import { UserError } from "../support/errors.js";

/** Whether a run measures its model at all. */
export const evaluates = ({ eval_strategy, eval_on_start }: TrainingArguments) =>
  eval_strategy !== "no" || eval_on_start;

/** One dataset to measure on, ready. */
export interface EvaluationSet extends LoadedExamples {
  /** Its metrics are `eval_NAME_loss` and so on; undefined for the only dataset. */
  name: string | undefined;
  /** What it is called in messages. */
  label: string;
}

/**
 * Loads datasets as the one to train on is, packed only as `eval_packing` says.
 * @throws UserError naming the dataset
 */
export async function loadEvaluations(
  datasets: readonly EvaluationRows[],
  source: ExampleSource,
  args: TrainingArguments,
  signal?: AbortSignal,
): Promise<EvaluationSet[]> {
  const sets: EvaluationSet[] = [];
  for (const { name, label, read } of datasets) {
    try {
      const examples = await loadExamples(read, source, args, args.eval_packing ?? args.packing, signal);
      sets.push({ name, label, ...examples });
    } catch (error) {
      if (!(error instanceof UserError) || error.message.startsWith(label)) throw error;
      throw new UserError(`${label}: ${error.message.replace(/^dataset:? /, "")}`, { cause: error });
    }
  }
  return sets;
}
