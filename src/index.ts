/** The public API. */

export { TrainingArguments, type TrainingArgumentsInput } from "./arguments/index.js";
export type { LogEntry, TrainerCallback, TrainerControl, TrainerState } from "./callbacks/callbacks.js";
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
export { UserError } from "./support/errors.js";
export type { HealthConfigInput as HealthConfig } from "./train/health/config.js";
export type { Incident } from "./train/health/watch.js";
export type { TrainOutput } from "./train/ledger.js";
export { Trainer, type TrainerConfig } from "./train/trainer.js";
