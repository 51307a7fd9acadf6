/** Which evaluation was the best so far, and the checkpoint that holds it. */
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { TrainingArguments } from "../arguments/index.js";
import type { TrainerState } from "../callbacks/callbacks.js";
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";

/** What every evaluation tells, and with prediction_loss_only. */
const ALWAYS = ["loss", "perplexity", "runtime", "samples_per_second", "steps_per_second", "num_tokens"];
const STATISTICS = ["mean_token_accuracy", "entropy"];

/** `metric_for_best_model` as it is in the metrics. */
export function metricKey({ metric_for_best_model: name }: TrainingArguments): string | undefined {
  if (name === null) return undefined;
  return name.startsWith("eval_") ? name : `eval_${name}`;
}

/**
 * Whether the metric can be had at all, before anything is loaded.
 * @param ownMetrics whether a metric function adds names that are not known yet
 * @throws UserError naming those that can
 */
export function checkMetric(args: TrainingArguments, ownMetrics: boolean): void {
  const key = metricKey(args);
  if (key === undefined || args.eval_strategy === "no" || (ownMetrics && !args.prediction_loss_only)) return;
  const known = args.prediction_loss_only ? ALWAYS : [...ALWAYS, ...STATISTICS];
  const name = key.slice("eval_".length);
  if (known.includes(name)) return;
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

/** Whether a metric is better than another, strictly. */
export function isBetter(value: number, than: number, { greater_is_better }: TrainingArguments): boolean {
  return greater_is_better ? value > than : value < than;
}

/** Notes in the state when this evaluation is the best; true when it is. */
export function noteBest(state: TrainerState, value: number, args: TrainingArguments): boolean {
  if (state.best_metric !== null && !isBetter(value, state.best_metric, args)) return false;
  state.best_metric = value;
  if (args.save_strategy !== "no") state.best_global_step = state.global_step;
  return true;
}

/** Sets `best_model_checkpoint` when the best evaluation's checkpoint is the one being saved, or is there already. */
export async function noteBestCheckpoint(state: TrainerState, outputDir: string, saving: number): Promise<void> {
  const { best_global_step: step } = state;
  if (!step) return;
  const path = join(outputDir, `checkpoint-${step}`);
  if (step === saving || (await exists(path))) state.best_model_checkpoint = path;
}

/** After a resume: the best checkpoint where it is today, in an output_dir that may have moved; null when it is gone. */
export async function findBestCheckpoint(state: TrainerState, outputDir: string): Promise<string | null> {
  const recorded = state.best_model_checkpoint;
  if (recorded === null) return null;
  const path = join(outputDir, basename(recorded));
  return (await exists(path)) ? path : null;
}

const exists = async (path: string) => (await stat(path).catch(() => undefined)) !== undefined;
