import type { FieldValues } from "./table.js";

/** Schedules that follow an evaluation metric instead of the number of updates. */
export const METRIC_DRIVEN: ReadonlySet<string> = new Set(["reduce_lr_on_plateau", "greedy"]);

/** Fills in what the Trainer derives from other arguments, in place. */
export function deriveValues(values: FieldValues): void {
  if (values.eval_strategy === "steps" && !values.eval_steps) values.eval_steps = values.logging_steps;
  const needsMetric = values.load_best_model_at_end || METRIC_DRIVEN.has(values.lr_scheduler_type);
  if (needsMetric && values.metric_for_best_model === null) values.metric_for_best_model = "loss";
  if (values.metric_for_best_model !== null && values.greater_is_better === null) {
    values.greater_is_better = !values.metric_for_best_model.endsWith("loss");
  }
}
