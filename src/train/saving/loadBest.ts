/** The end of a run with `load_best_model_at_end`. */
import type { TrainingArguments } from "../../arguments/index.js";
import type { TrainerState } from "../../callbacks/callbacks.js";
import { metricKey } from "../../evaluate/bestModel.js";
import { damage } from "../../runFolder/manifest.js";
import type { PreparedRun } from "../prepare.js";
import { restoreWeights } from "./resumable.js";

/** Puts the weights of the best checkpoint into the model; says so, or why the last ones stay. */
export async function loadBest(
  run: PreparedRun,
  args: TrainingArguments,
  { best_model_checkpoint: best, best_metric, best_global_step }: TrainerState,
  log: (line: string) => void,
): Promise<void> {
  const reason = best === null ? "no checkpoint was saved at an evaluation" : await damage(best);
  if (best === null || reason) {
    const problem = best === null ? reason : `${best} is damaged: ${reason}`;
    log(`load_best_model_at_end: ${problem}. The result has the weights of the last update.`);
    return;
  }
  await restoreWeights(best, run.lora ? "adapter_model" : "model", run.parameters);
  log(`Best: ${metricKey(args)} ${best_metric} at update ${best_global_step}; the result has the weights of ${best}`);
}
