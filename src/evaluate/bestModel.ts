/** Which evaluation was the best so far, and the checkpoint that holds it. */

import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { TrainingArguments } from "../arguments/index.js";
import { isBetter, metricKey } from "../callbacks/metric.js";
import { checkpointName } from "../runFolder/files.js";
import type { TrainerState } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";

/** What every evaluation tells, and with prediction_loss_only. */
const ALWAYS = ["loss", "perplexity", "runtime", "samples_per_second", "steps_per_second", "num_tokens"];
const STATISTICS = ["mean_token_accuracy", "entropy"];

/**
 * Refuses a metric that no evaluation will give, before anything is loaded.
 * @param ownMetrics whether a metric function adds names that are not known yet
 * @param names of the datasets, where they have any
 * @throws UserError naming those that can
 */
export function checkMetric(args: TrainingArguments, ownMetrics: boolean, names: readonly string[] = []): void {
  const key = metricKey(args);
  if (key === undefined || args.eval_strategy === "no" || (ownMetrics && !args.prediction_loss_only)) return;
  const ofOne = args.prediction_loss_only ? ALWAYS : [...ALWAYS, ...STATISTICS];
  const known = names.length === 0 ? ofOne : names.flatMap((name) => ofOne.map((metric) => `${name}_${metric}`));
  const name = key.slice("eval_".length);
  if (known.includes(name)) return;
  if (ofOne.includes(name)) {
    throw new UserError(
      `training_args.metric_for_best_model: ${JSON.stringify(args.metric_for_best_model ?? "loss")}: eval_dataset names several datasets, and one of them decides: ${names.map((each) => `${each}_${name}`).join(", ")}`,
    );
  }
  const why =
    args.prediction_loss_only && STATISTICS.includes(name)
      ? "prediction_loss_only leaves it out"
      : `no evaluation gives it${didYouMean(name, known)}; there are ${known.join(", ")}, and those of computeMetrics`;
  throw new UserError(`training_args.metric_for_best_model: "${args.metric_for_best_model}": ${why}`);
}

/** @throws UserError when the evaluation has no such metric */
export function metricOf(metrics: Readonly<Record<string, number>>, args: TrainingArguments): number | undefined {
  const key = metricKey(args);
  if (key === undefined) return undefined;
  const value = metrics[key];
  if (value !== undefined) return value;
  const names = Object.keys(metrics);
  throw new UserError(
    `metric_for_best_model: the evaluation has no ${key}${didYouMean(key, names)}; it has ${names.join(", ")}`,
  );
}

/** Notes in the state when this evaluation is the best; true when it is. */
export function noteBest(state: TrainerState, value: number, args: TrainingArguments): boolean {
  if (state.best_metric !== null && !isBetter(value, state.best_metric, args)) return false;
  state.best_metric = value;
  if (args.save_strategy !== "no") state.best_global_step = state.global_step;
  return true;
}

/**
 * The checkpoint of the best evaluation: the one being saved, or one that is there already; undefined when there is none.
 * @param asked updates whose checkpoint a run left alone would not have: they are never the best
 */
export async function bestCheckpoint(
  { best_global_step: step }: TrainerState,
  outputDir: string,
  saving: number,
  asked: readonly number[],
): Promise<string | undefined> {
  if (!step || asked.includes(step)) return undefined;
  const path = join(outputDir, checkpointName(step));
  return step === saving || (await exists(path)) ? path : undefined;
}

/** After a resume: the best checkpoint where it is today, in an output_dir that may have moved; null when it is gone. */
export async function findBestCheckpoint(state: TrainerState, outputDir: string): Promise<string | null> {
  const recorded = state.best_model_checkpoint;
  if (recorded === null) return null;
  const path = join(outputDir, basename(recorded));
  return (await exists(path)) ? path : null;
}

const exists = async (path: string) => (await stat(path).catch(() => undefined)) !== undefined;
