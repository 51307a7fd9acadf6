/** Measuring a model outside of a run: before training, after it, or one model against another. */

import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { describeReport } from "../data/examples.js";
import { evaluationRows } from "../data/runData.js";
import type { EvalDatasetInput } from "../data/sources.js";
import { resolveModel } from "../hub/index.js";
import { readModelConfig } from "../models/config.js";
import { applyTf32, fullEvalDtype, lowPrecision, precisionFor } from "../models/precision.js";
import { type QuantizationConfigInput, quantizationFor } from "../models/quantization.js";
import { loadAdapted } from "../peft/loadAdapted.js";
import { tell } from "../support/plainText.js";
import { chooseDevice, type DeviceChoice } from "../torch/index.js";
import { loadEvaluations } from "./evaluationData.js";
import { type ComputeMetrics, Evaluator, metricsFunction, prefixOf } from "./evaluator.js";

/** What to measure, on what. */
export interface EvaluationConfig {
  /** A model folder in Hugging Face format, or a hub id. */
  model: string;
  /** A PEFT adapter on it. */
  adapter?: string;
  /** The model's weights in 4 or 8 bits. */
  quantization?: QuantizationConfigInput;
  /** What to measure it on: files, rows, or several datasets by name. */
  dataset: EvalDatasetInput;
  /** How examples are made and measured: max_length, completion_only_loss, per_device_eval_batch_size, bf16, ... */
  training_args?: TrainingArguments | TrainingArgumentsInput;
  /** cuda fails where there is no GPU. Absent: a GPU where there is one. */
  device?: DeviceChoice;
  /** Metrics of your own. */
  computeMetrics?: ComputeMetrics;
  /** The same, by transformers' name. */
  compute_metrics?: ComputeMetrics;
  /** After each batch, counted from 1. */
  onBatch?: (batch: number, batches: number) => void;
  /** Gets the lines that a person should see; default: stderr. */
  log?: (line: string) => void;
}

/**
 * `eval_loss`, `eval_perplexity`, `eval_mean_token_accuracy`, `eval_entropy` (nats), your own metrics, and the speed.
 * @throws UserError for a model, an adapter or a dataset that cannot be used
 */
export async function evaluateModel(config: EvaluationConfig): Promise<Record<string, number>> {
  const { training_args, onBatch } = config;
  const computeMetrics = metricsFunction(config);
  const log = config.log ?? tell;
  const args = training_args instanceof TrainingArguments ? training_args : new TrainingArguments(training_args);
  for (const note of args.notes) log(note);
  const quantization = quantizationFor(config.quantization, { frozen: true, bf16: args.bf16, fp16: args.fp16 });
  const modelFolder = await resolveModel(config.model);
  const adapter = config.adapter === undefined ? undefined : await resolveModel(config.adapter);
  const { maxPositions, vocabSize } = await readModelConfig(modelFolder);
  const source = { modelFolder, maxPositions, vocabSize };
  const sets = await loadEvaluations(evaluationRows(config.dataset, args), source, args);
  for (const { report } of sets) for (const line of describeReport(report)) log(line);
  const dtype = fullEvalDtype(args);
  const device = chooseDevice(args.use_cpu, config.device);
  applyTf32(args.tf32, device);
  const precision = dtype ? lowPrecision(dtype, device) : precisionFor(args, device);
  const model = await loadAdapted(modelFolder, adapter, { precision, device, quantization }, dtype);
  try {
    const evaluator = new Evaluator({ model, modelFolder, args, computeMetrics });
    const metrics: Record<string, number> = {};
    for (const set of sets) {
      Object.assign(metrics, await evaluator.evaluate(set, { prefix: prefixOf("eval", set), onBatch }));
    }
    return metrics;
  } finally {
    model.dispose();
  }
}
