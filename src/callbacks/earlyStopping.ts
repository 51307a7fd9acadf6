/** Ends a run when evaluations stop getting better. */

import { z } from "zod";
import type { TrainingArguments } from "../arguments/index.js";
import type { TrainerState } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { zodProblem } from "../support/zodProblem.js";
import type { CallbackState, TrainerCallback, TrainerControl } from "./callbacks.js";
import { isBetter, metricKey } from "./metric.js";

/** The key `early_stopping` of a config. */
export const earlyStoppingSchema = z.strictObject({
  patience: z
    .int()
    .min(1)
    .default(1)
    .describe("Stop after this many evaluations in a row that were not better than the best."),
  threshold: z
    .number()
    .min(0)
    .default(0)
    .describe("By how much metric_for_best_model must beat the best to count as better."),
});

/** When to end a run whose evaluations do not get better. */
export interface EarlyStoppingOptions {
  /** After so many evaluations in a row that were not better than the best. Default: 1. */
  patience?: number;
  /** By how much `metric_for_best_model` must beat the best to count as better. Default: 0. */
  threshold?: number;
}

/** transformers' callback of this name: counts evaluations that did not beat the best by more than a threshold. */
export class EarlyStoppingCallback implements TrainerCallback {
  readonly stateName = "EarlyStoppingCallback";
  readonly #patience: number;
  readonly #threshold: number;
  #failures = 0;

  /** @throws UserError for unknown or wrong options */
  constructor(options: EarlyStoppingOptions = {}) {
    const parsed = earlyStoppingSchema.safeParse(options);
    if (!parsed.success) throw new UserError(zodProblem(parsed.error, "early_stopping"));
    this.#patience = parsed.data.patience;
    this.#threshold = parsed.data.threshold;
  }

  /** Evaluations in a row that were no better, when they have ended the run. */
  get stoppedAfter(): number | undefined {
    return this.#failures >= this.#patience ? this.#failures : undefined;
  }

  /** @throws UserError when the arguments give it nothing to go by */
  check(args: TrainingArguments): void {
    if (args.eval_strategy === "no") {
      throw new UserError("early_stopping: it needs evaluations; set eval_strategy to steps or epoch.");
    }
    if (args.metric_for_best_model === null) {
      throw new UserError(
        "early_stopping: it needs metric_for_best_model; set load_best_model_at_end: true, which takes the loss and also ends with the best weights, or metric_for_best_model: loss.",
      );
    }
  }

  onTrainBegin(args: TrainingArguments, _: TrainerState, control: TrainerControl): void {
    this.check(args);
    // A run that had stopped and is resumed has nothing more to do, unless it was given more patience.
    if (this.#failures >= this.#patience) control.should_training_stop = true;
  }

  onEvaluate(
    args: TrainingArguments,
    state: TrainerState,
    control: TrainerControl,
    { metrics }: { metrics: Readonly<Record<string, number>> },
  ): void {
    const value = metrics[metricKey(args)!];
    if (value === undefined) return; // the loop names the metrics that there are
    const best = state.best_metric; // of the evaluations before this one
    const better = best === null || (isBetter(value, best, args) && Math.abs(value - best) > this.#threshold);
    this.#failures = better ? 0 : this.#failures + 1;
    if (this.#failures >= this.#patience) control.should_training_stop = true;
  }

  saveState(): CallbackState {
    return {
      args: { early_stopping_patience: this.#patience, early_stopping_threshold: this.#threshold },
      attributes: { early_stopping_patience_counter: this.#failures },
    };
  }

  /** Takes the count up again; patience and threshold stay those of today. */
  loadState({ attributes }: CallbackState): void {
    this.#failures = Number(attributes.early_stopping_patience_counter ?? 0);
  }
}
