/** The end of a run with `load_best_model_at_end`. */
import type { TrainingArguments } from "../../arguments/index.js";
import { metricKey } from "../../callbacks/metric.js";
import { damage } from "../../runFolder/manifest.js";
import type { TrainerState } from "../../runFolder/state.js";

/** The checkpoint whose weights the result is to have; says so, or why the last ones stay. */
export async function chooseBest(
  { best_model_checkpoint: best, best_metric, best_global_step }: Readonly<TrainerState>,
  args: TrainingArguments,
  log: (line: string) => void,
): Promise<string | undefined> {
  const reason = best === null ? "no checkpoint was saved at an evaluation" : await damage(best);
  if (best === null || reason) {
    const problem = best === null ? reason : `${best} is damaged: ${reason}`;
    log(`load_best_model_at_end: ${problem}. The result has the weights of the last update.`);
    return undefined;
  }
  log(`Best: ${metricKey(args)} ${best_metric} at update ${best_global_step}; the result has the weights of ${best}`);
  return best;
}
