/** A causal language model: a decoder and its head, their parameters by Hugging Face's names, and the loss. */
import { elementCount } from "../support/shape.js";
import type { WeightRole } from "../support/weightRole.js";
import { backward, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import type { Batch, PaddedShape } from "./batch.js";
import type { Attention, Decoder, DecoderInput } from "./decoder.js";
import type { ModelDescription } from "./description.js";
import { DroppedAttention } from "./droppedAttention.js";
import type { Head } from "./head.js";
import { type Linear, tensorsOf } from "./linear.js";
import { PackedAttention } from "./packedAttention.js";
import { PaddedRandom } from "./paddedRandom.js";
import { QuantizedWeight } from "./quantizedWeight.js";
import type { ScoreOptions, TokenScores } from "./scores.js";
import { TrainingPass } from "./trainingPass.js";

export interface Parameter {
  /** Python's name of it. */
  name: string;
  /** Its name in the model's files, where they spell it in another way. */
  stored?: string;
  role: WeightRole;
  tensor: Tensor;
  shape: number[];
}

/** What is drawn at random for a micro-batch: the dropout of the adapters that have it, and noise on the embeddings. */
export interface TrainingNoise {
  /** The shape that Python draws in. */
  padded: PaddedShape;
  /** Strength of NEFTune's noise; null: none. */
  neftuneAlpha: number | null;
}

export interface LossOptions {
  /** Share of each target that is spread evenly over the vocabulary; 0 where left out. */
  labelSmoothing?: number;
  /** Left out: nothing is drawn at random, dropout is off. */
  noise?: TrainingNoise;
  /** What the gradients are multiplied by, so that small ones do not vanish in float16; the loss is not. */
  lossScale?: number;
  /** Every so many layers one keeps its input alone, and is computed again in the backward pass; 0: none. */
  recomputeEvery?: number;
}

export class CausalLM {
  readonly description: ModelDescription;
  readonly decoder: Decoder;
  readonly head: Head;
  /** Every weight that is not quantized by its name in the file, in the file format's module order; tied ones once. */
  readonly parameters: Map<string, Parameter>;
  /** Every linear layer by module path ("model.layers.0.self_attn.q_proj"), in module order, the head last. */
  readonly linears: Map<string, Linear>;

  constructor(decoder: Decoder, head: Head, parameters: Map<string, Parameter>, linears: Map<string, Linear>) {
    this.description = decoder.description;
    this.decoder = decoder;
    this.head = head;
    this.parameters = parameters;
    this.linears = linears;
  }

  /** How many numbers the weights hold, without adapters. */
  get size(): number {
    const dense = [...this.parameters.values()].reduce((sum, { shape }) => sum + elementCount(shape), 0);
    return [...this.linears.values()]
      .filter(({ weight }) => weight instanceof QuantizedWeight)
      .reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, dense);
  }

  /** Logits of every token, [N, V], float32. */
  logits(batch: Batch): Tensor {
    return scope(() => this.head.logits(this.decoder.hidden(this.#input(batch))));
  }

  /**
   * Σ cross entropy over the batch's labelled tokens / items, and its gradients added to the trained weights'. Logits
   * exist at labelled positions only, a block of the vocabulary at a time.
   * @param items labelled tokens of the whole optimizer step
   */
  lossAndGradients(
    batch: Batch,
    items: number,
    { labelSmoothing = 0, noise, lossScale = 1, recomputeEvery = 0 }: LossOptions = {},
  ): Tensor {
    return scope(() => {
      const random = noise && new PaddedRandom(noise.padded, this.decoder.device);
      const input = this.#input(batch, random, noise?.neftuneAlpha);
      const pass = new TrainingPass(this.decoder, input, recomputeEvery);
      const labelled = this.#labelled(batch);
      const loss = this.head.crossEntropy(ops.indexSelect(pass.hidden, 0, labelled), batch.targets, {
        smoothing: labelSmoothing,
        scale: lossScale / items,
        dropout: random?.at(labelled),
      });
      backward(loss);
      pass.backward();
      return lossScale === 1 ? ops.detach(loss) : ops.mulScalar(ops.detach(loss), 1 / lossScale);
    });
  }

  /** Scores of the batch's labelled tokens, without gradients; there must be one. Logits exist a block at a time. */
  score(batch: Batch, options: ScoreOptions): TokenScores {
    return noGrad(() =>
      scope(() => {
        const rows = ops.indexSelect(this.decoder.hidden(this.#input(batch)), 0, this.#labelled(batch)); // [L, H]
        return this.head.scores(rows, batch.targets, options);
      }),
    );
  }

  /** What the decoder gets of a batch, and of what is drawn for it. */
  #input(batch: Batch, random?: PaddedRandom, neftuneAlpha: number | null = null): DecoderInput {
    return {
      ids: batch.inputIds,
      positions: batch.positions,
      longest: batch.longest,
      attention: this.#attention(batch, random),
      noise: random && neftuneAlpha !== null ? random.noise(neftuneAlpha, this.description.hiddenSize) : undefined,
      dropout: random,
    };
  }

  /** Blocks of scores, or all of them where dropout falls on the weights. */
  #attention({ lengths }: Batch, random: PaddedRandom | undefined): Attention {
    const { weightDropout, heads, kvHeads, headDim } = this.description.layers[0]!.attention;
    const { device, precision } = this.decoder;
    if (!random || weightDropout === 0) return new PackedAttention(lengths, device);
    return new DroppedAttention(lengths, random, weightDropout, {
      heads,
      kvHeads,
      headDim,
      dtype: precision.compute,
      device,
    });
  }

  /** The rows of the batch's labelled tokens among the N, [L]. */
  #labelled({ targetRows }: Batch): Tensor {
    return ops.int64(targetRows, [targetRows.length], this.decoder.device);
  }

  dispose(): void {
    for (const { tensor } of this.parameters.values()) tensor.dispose();
    for (const { lora, weight } of this.linears.values()) {
      if (weight instanceof QuantizedWeight) weight.dispose();
      if (lora) for (const tensor of tensorsOf(lora)) tensor.dispose();
    }
    for (const rows of new Set([this.decoder.rows, this.head.rows])) rows?.dispose();
  }
}
