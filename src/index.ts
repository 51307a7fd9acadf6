/** The public API. */
export { loadConfig, type RunConfig } from "./config/index.js";
export { UserError } from "./errors.js";
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
export { TrainingArguments, type TrainingArgumentsInput } from "./train/arguments/index.js";
export type { LogEntry, TrainerCallback, TrainerControl, TrainerState } from "./train/callbacks.js";
export { EarlyStoppingCallback, type EarlyStoppingOptions } from "./train/earlyStopping.js";
export type { EvaluatedExample } from "./train/evaluate.js";
export { type EvaluationConfig, evaluateModel } from "./train/evaluateModel.js";
export type { ComputeMetrics, MetricContext } from "./train/evaluator.js";
export type { TrainingEvent } from "./train/handle/events.js";
export type { HealthConfigInput as HealthConfig } from "./train/health/config.js";
export type { Incident } from "./train/health/watch.js";
export type { TrainOutput } from "./train/ledger.js";
export { ProgressCallback } from "./train/progress.js";
export { Trainer, type TrainerConfig } from "./train/trainer.js";
