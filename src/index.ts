/** The public API. */

export { TrainingArguments, type TrainingArgumentsInput } from "./arguments/index.js";
export type { TrainerCallback, TrainerControl } from "./callbacks/callbacks.js";
export { EarlyStoppingCallback, type EarlyStoppingOptions } from "./callbacks/earlyStopping.js";
export type { TrainingEvent } from "./callbacks/events.js";
export { ProgressCallback } from "./callbacks/progress.js";
export { loadConfig, type RunConfig } from "./config/index.js";
export type { EvaluatedExample } from "./evaluate/evaluate.js";
export { type EvaluationConfig, evaluateModel } from "./evaluate/evaluateModel.js";
export type { ComputeMetrics, MetricContext } from "./evaluate/evaluator.js";
export {
  type GenerateOptions,
  type GenerationOptions,
  generate,
  loadGenerator,
  type Prompt,
  TextGenerator,
} from "./generate/index.js";
export type { QuantizationConfigInput as QuantizationConfig } from "./models/quantization.js";
export type { LoraConfigInput as LoraConfig } from "./peft/config.js";
export { type Merged, type MergeOptions, mergeAdapter } from "./peft/merge.js";
export {
  type ControlLine,
  listRuns,
  type Phase,
  type RunRecord,
  type RunView,
  readMetrics,
  readRun,
  readTrainerState,
  type SettableValues,
  type Status,
  sendControl,
} from "./runFolder/index.js";
export type { Incident, LogEntry, TrainerState, TrainOutput } from "./runFolder/state.js";
export { UserError } from "./support/errors.js";
export type { HealthConfigInput as HealthConfig } from "./train/health/config.js";
export { Trainer, type TrainerConfig } from "./train/trainer.js";
