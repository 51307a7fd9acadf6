/** The evaluations of one run: its held-out examples, its arguments and its own metrics, on the model as it is. */

import type { TrainingArguments } from "../arguments/index.js";
import { Tokenizer } from "../data/tokenizer.js";
import { type GenerationOptions, generatorFor, type Prompt } from "../generate/index.js";
import { evaluationAdvice, explainMemory } from "../memory/outOfMemory.js";
import type { Sequence } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import { type EvaluatedExample, evaluate } from "./evaluate.js";

/** What a metric function works with. */
export interface MetricContext {
  /** In the order of the dataset. */
  readonly examples: readonly EvaluatedExample[];
  /** The text of token ids. */
  decode(ids: Iterable<number>): Promise<string>;
  /** Answers of the model as it is now, by default the likeliest token each time. */
  generate(prompts: readonly Prompt[], options?: GenerationOptions): Promise<string[]>;
}

/** Own metrics by name, without prefix: `accuracy` becomes `eval_accuracy`. Called at each evaluation. */
export type ComputeMetrics = (context: MetricContext) => Record<string, number> | Promise<Record<string, number>>;

export interface EvaluatorOptions {
  model: CausalLM;
  modelFolder: string;
  examples: readonly Sequence[];
  args: TrainingArguments;
  computeMetrics?: ComputeMetrics;
}

export class Evaluator {
  readonly #options: EvaluatorOptions;

  constructor(options: EvaluatorOptions) {
    this.#options = options;
  }

  /**
   * Metrics with the prefix `eval_`; undefined when it was asked to stop on the way.
   * @param onBatch after each batch, counted from 1
   */
  async evaluate(
    onBatch?: (batch: number, batches: number) => Promise<void> | void,
    stopRequested?: () => boolean,
  ): Promise<Record<string, number> | undefined> {
    const { model, examples, args, computeMetrics } = this.#options;
    try {
      return await evaluate({
        model,
        examples,
        batchSize: args.per_device_eval_batch_size,
        lossOnly: args.prediction_loss_only,
        labelSmoothing: args.label_smoothing_factor,
        compute: computeMetrics && ((evaluated) => computeMetrics(this.#context(evaluated))),
        onBatch,
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
      decode: async (ids) => (await tokenizer()).decode(ids),
      generate: async (prompts, options) => {
        const generator = await generatorFor(model, modelFolder, await tokenizer());
        return generator.complete(prompts, options);
      },
    };
  }
}
