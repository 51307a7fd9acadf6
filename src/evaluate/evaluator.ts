/** Evaluations by the arguments and the own metrics of a run, on the model as it is. */

import type { TrainingArguments } from "../arguments/index.js";
import { Tokenizer } from "../data/tokenizer.js";
import { type GenerationOptions, generatorFor, type Prompt } from "../generate/index.js";
import { evaluationAdvice, explainMemory } from "../memory/outOfMemory.js";
import type { CausalLM } from "../models/causalLM.js";
import { UserError } from "../support/errors.js";
import { type EvaluatedExample, evaluate } from "./evaluate.js";
import type { EvaluationSet } from "./evaluationData.js";

/** What a metric function works with. */
export interface MetricContext {
  /** In the order of the dataset. */
  readonly examples: readonly EvaluatedExample[];
  /** Of each example, its `predictions`; with `label_ids` what transformers gives to `compute_metrics`, not shifted. */
  readonly predictions: readonly Int32Array[];
  /** Of each example, its `labels`. */
  readonly label_ids: readonly Int32Array[];
  /** The text of token ids. */
  decode(ids: Iterable<number>): Promise<string>;
  /** Answers of the model as it is now, by default the likeliest token each time. */
  generate(prompts: readonly Prompt[], options?: GenerationOptions): Promise<string[]>;
}

/** Own metrics by name, without prefix: `accuracy` becomes `eval_accuracy`. Called at each evaluation. */
export type ComputeMetrics = (context: MetricContext) => Record<string, number> | Promise<Record<string, number>>;

/** The metric function of a config, under either name. @throws UserError for both */
export function metricsFunction(config: {
  computeMetrics?: ComputeMetrics;
  compute_metrics?: ComputeMetrics;
}): ComputeMetrics | undefined {
  if (config.computeMetrics && config.compute_metrics) {
    throw new UserError(
      "compute_metrics: it is the same as computeMetrics, and both are given. Remove one of the two.",
    );
  }
  return config.computeMetrics ?? config.compute_metrics;
}

export interface EvaluatorOptions {
  model: CausalLM;
  modelFolder: string;
  args: TrainingArguments;
  computeMetrics?: ComputeMetrics;
}

export interface MeasureOptions {
  /** Of the metrics' names, without `_`. */
  prefix: string;
  /** After each batch, counted from 1. */
  onBatch?: (batch: number, batches: number) => Promise<void> | void;
  onExamples?: (examples: readonly EvaluatedExample[]) => void;
  stopRequested?: () => boolean;
}

/** `eval` for the only dataset, `eval_NAME` for one of several. */
export const prefixOf = (prefix: string, { name }: Pick<EvaluationSet, "name">) =>
  name === undefined ? prefix : `${prefix}_${name}`;

export class Evaluator {
  readonly #options: EvaluatorOptions;

  constructor(options: EvaluatorOptions) {
    this.#options = options;
  }

  /** Metrics with the prefix, on one dataset; undefined when it was asked to stop on the way. */
  async evaluate(
    { sequences, label }: Pick<EvaluationSet, "sequences" | "label">,
    { prefix, onBatch, onExamples, stopRequested }: MeasureOptions,
  ): Promise<Record<string, number> | undefined> {
    const { model, args, computeMetrics } = this.#options;
    try {
      return await evaluate({
        model,
        sequences,
        label,
        prefix,
        batchSize: args.per_device_eval_batch_size,
        lossOnly: args.prediction_loss_only,
        labelSmoothing: args.label_smoothing_factor,
        compute: computeMetrics && ((evaluated) => computeMetrics(this.#context(evaluated))),
        onBatch,
        onExamples,
        stopRequested,
      });
    } catch (error) {
      throw explainMemory(error, evaluationAdvice(args));
    }
  }

  #context(examples: readonly EvaluatedExample[]): MetricContext {
    const { model, modelFolder, args } = this.#options;
    let loading: Promise<Tokenizer> | undefined;
    const tokenizer = () =>
      (loading ??= Tokenizer.load(modelFolder).then((own) =>
        args.eos_token === null ? own : own.withEosToken(args.eos_token),
      ));
    return {
      examples,
      predictions: examples.map(({ predictions }) => predictions),
      label_ids: examples.map(({ labels }) => labels),
      decode: async (ids) => (await tokenizer()).decode(ids),
      generate: async (prompts, options) => {
        const generator = await generatorFor(model, modelFolder, await tokenizer());
        return generator.complete(prompts, options);
      },
    };
  }
}
