/** The metric by which one model is better than another. */
import type { TrainingArguments } from "../arguments/index.js";

/** `metric_for_best_model` as it is in the metrics. */
export function metricKey({ metric_for_best_model: name }: TrainingArguments): string | undefined {
  if (name === null) return undefined;
  return name.startsWith("eval_") ? name : `eval_${name}`;
}

/** Whether a metric is better than another, strictly. */
export function isBetter(value: number, than: number, { greater_is_better }: TrainingArguments): boolean {
  return greater_is_better ? value > than : value < than;
}
