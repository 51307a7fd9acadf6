/** The public API. */

export { TrainingArguments, type TrainingArgumentsInput, trainingArgumentsSchema } from "./arguments/index.js";
export type { CallbackContext, CallbackState, TrainerCallback, TrainerControl } from "./callbacks/callbacks.js";
export { EarlyStoppingCallback, type EarlyStoppingOptions, earlyStoppingSchema } from "./callbacks/earlyStopping.js";
export type { TrainingEvent } from "./callbacks/events.js";
export { ProgressCallback, type ProgressOptions } from "./callbacks/progress.js";
export { configJsonSchema, configSchema, defineConfig, loadConfig, type RunConfig } from "./config/index.js";
export { ChatTemplate, type MarkedText, type RenderOptions, type TemplateSource } from "./data/chatTemplate.js";
export {
  type DatasetColumns,
  type DatasetFormat,
  type DatasetSpec,
  datasetSchema,
  evalDatasetSchema,
  type FileDataset,
} from "./data/config.js";
export type { Message } from "./data/format.js";
export type {
  AlpacaRow,
  ChatMessage,
  ChatPromptCompletionRow,
  ConversationExtras,
  DatasetRow,
  DatasetRows,
  MessagesRow,
  PromptCompletionRow,
  RowSource,
  ShareGptRow,
  TextRow,
  TokenizedRow,
} from "./data/rows.js";
export type { DatasetInput, EvalDatasetInput, RowsEntry } from "./data/sources.js";
export type { StreamDecoder } from "./data/stream.js";
export { Tokenizer } from "./data/tokenizer.js";
export type { EvaluatedExample } from "./evaluate/evaluate.js";
export { type EvaluationConfig, evaluateModel } from "./evaluate/evaluateModel.js";
export type { ComputeMetrics, MetricContext } from "./evaluate/evaluator.js";
export type { SamplingOptions } from "./generate/choose.js";
export {
  type GenerateOptions,
  type GenerationOptions,
  type GeneratorSource,
  generate,
  loadGenerator,
  type Prompt,
  TextGenerator,
} from "./generate/index.js";
export { type QuantizationConfigInput as QuantizationConfig, quantizationSchema } from "./models/quantization.js";
export { type LoraConfigInput as LoraConfig, loraSchema } from "./peft/config.js";
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
export { UserError, type UserErrorCode, type UserErrorIssue } from "./support/errors.js";
export type { Terminal } from "./support/terminal.js";
export type { DeviceChoice } from "./torch/index.js";
export { type HealthConfigInput as HealthConfig, healthSchema } from "./train/health/config.js";
export type { Prediction } from "./train/session.js";
export { Trainer, type TrainerConfig } from "./train/trainer.js";
