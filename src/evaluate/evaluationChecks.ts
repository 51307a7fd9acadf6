/** What evaluations need, checked before anything is loaded. */

import type { TrainingArguments } from "../arguments/index.js";
import type { TrainerCallback } from "../callbacks/callbacks.js";
import { EarlyStoppingCallback } from "../callbacks/earlyStopping.js";
import { type EvalDatasetInput, namedDatasets } from "../data/sources.js";
import { createScheduler } from "../optim/schedulers.js";
import { UserError } from "../support/errors.js";
import { checkMetric } from "./bestModel.js";
import { evaluates } from "./evaluationData.js";

interface Evaluation {
  eval_dataset?: EvalDatasetInput;
  eval_split?: number;
  computeMetrics?: unknown;
  callbacks?: readonly TrainerCallback[];
}

/**
 * Notes for the user: what is given and not used.
 * @throws UserError for what is missing
 */
export function checkEvaluation(args: TrainingArguments, config: Evaluation): string[] {
  const { eval_dataset, eval_split, computeMetrics, callbacks = [] } = config;
  const given = eval_dataset === undefined ? (eval_split === undefined ? undefined : "eval_split") : "eval_dataset";
  if (evaluates(args) && given === undefined) {
    const asks = args.eval_strategy === "no" ? "eval_on_start is true" : `eval_strategy is ${args.eval_strategy}`;
    throw new UserError(
      `eval_dataset: ${asks}, but there is nothing to evaluate on. Set eval_dataset or eval_split, or eval_strategy: no.`,
    );
  }
  for (const callback of callbacks) if (callback instanceof EarlyStoppingCallback) callback.check(args);
  const names = eval_dataset === undefined ? [] : namedDatasets(eval_dataset).flatMap(({ name }) => name ?? []);
  checkMetric(args, computeMetrics !== undefined, names);
  const notes: string[] = [];
  const { metric } = createScheduler(args, { maxSteps: 1 });
  if (metric && (metric.mode === "max") !== args.greater_is_better) {
    notes.push(
      `lr_scheduler_type ${args.lr_scheduler_type} takes a ${metric.mode === "max" ? "larger" : "smaller"} ${args.metric_for_best_model} as better, as in Python; set lr_scheduler_kwargs: {mode: ${args.greater_is_better ? "max" : "min"}} for the other way round.`,
    );
  }
  if (!evaluates(args) && given !== undefined) {
    notes.push(
      `${given} is not measured in the run: eval_strategy is no. Set it to epoch or steps to evaluate during the run.`,
    );
  }
  if (callbacks.some((callback) => callback instanceof EarlyStoppingCallback) && !args.load_best_model_at_end) {
    notes.push("Early stopping without load_best_model_at_end: the result has the last weights, not the best.");
  }
  if (args.prediction_loss_only && computeMetrics !== undefined) {
    notes.push("computeMetrics is not called: prediction_loss_only is true.");
  }
  return notes;
}
