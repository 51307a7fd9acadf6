/** The Llama decoder: embeddings and layers of attention and gated MLP. */
import { type Device, fused, ops, scope, type Tensor } from "../torch/index.js";
import type { ModelConfig } from "./config.js";
import { type DropoutSource, forward, type Linear, type LinearInput } from "./linear.js";
import type { Precision } from "./precision.js";
import { Rotary, type Rotation } from "./rope.js";

export interface DecoderLayer {
  inputNorm: Tensor; // [H]
  q: Linear;
  k: Linear;
  v: Linear;
  o: Linear;
  postNorm: Tensor; // [H]
  gate: Linear;
  up: Linear;
  down: Linear;
}

/** How tokens see each other: within packed sequences when training, through a cache when generating. */
export interface Attention {
  /** q is [N, heads, D], k and v [N, kv heads, D], in the compute dtype; the result is [N, heads·D]. */
  attend(layer: number, q: Tensor, k: Tensor, v: Tensor, options: fused.AttentionOptions): Tensor;
}

/** N tokens, of any number of sequences laid end to end: no padding is ever computed. */
export interface DecoderInput {
  ids: ArrayLike<number>; // [N]
  positions: ArrayLike<number>; // [N]
  /** The longest sequence's length, with what a cache holds of it. */
  longest: number;
  attention: Attention;
  dropout?: DropoutSource;
  /** Added to the embeddings: [N, H]. */
  noise?: Tensor;
}

/** What all layers of one pass share. */
export interface LayerContext {
  readonly tokens: number; // N
  readonly rotation: Rotation;
  readonly attention: Attention;
  readonly dropout: DropoutSource | undefined;
}

export class Decoder {
  readonly config: ModelConfig;
  readonly precision: Precision;
  /** Where its weights lie. */
  readonly device: Device;
  readonly embedding: Tensor; // [V, H]
  readonly layers: DecoderLayer[];
  /** Whether its own weights are trained, and not only adapters on them. */
  readonly trained: boolean;
  readonly #rotary: Rotary;

  constructor(
    config: ModelConfig,
    precision: Precision,
    device: Device,
    parts: { embedding: Tensor; layers: DecoderLayer[]; trained: boolean },
  ) {
    this.config = config;
    this.precision = precision;
    this.device = device;
    this.embedding = parts.embedding;
    this.layers = parts.layers;
    this.trained = parts.trained;
    this.#rotary = new Rotary(config, device);
  }

  /** The residual stream after the last layer, before the head's norm: [N, H], float32. */
  hidden(input: DecoderInput): Tensor {
    const context = this.context(input);
    let x = this.embed(input);
    for (const index of this.layers.keys()) {
      const next = this.layer(index, x, context);
      x.dispose();
      x = next;
    }
    return x;
  }

  context({ ids, positions, longest, attention, dropout }: DecoderInput): LayerContext {
    return { tokens: ids.length, rotation: this.#rotary.at(positions, longest), attention, dropout };
  }

  /** What the first layer gets: [N, H], float32. */
  embed({ ids, noise }: DecoderInput): Tensor {
    const x = ops.to(ops.embedding(this.embedding, ops.int64(ids, [ids.length], this.device)), "float32");
    return noise ? ops.add(x, noise) : x;
  }

  /** One layer: [N, H] to [N, H]. */
  layer(index: number, x: Tensor, context: LayerContext): Tensor {
    const layer = this.layers[index]!;
    // A scope for each half: what autograd does not save is freed at once, not after the backward pass.
    const between = scope(() => this.#attention(layer, index, x, context));
    const next = scope(() => this.#mlp(layer, between, context.dropout));
    between.dispose();
    return next;
  }

  /** x + the attention's output, [N, H]. */
  #attention(layer: DecoderLayer, index: number, x: Tensor, context: LayerContext): Tensor {
    const { tokens, rotation, attention, dropout } = context;
    const { heads, kvHeads, headDim } = this.config;
    const split = (y: Tensor, count: number) => ops.reshape(y, [tokens, count, headDim]);
    const turned = (y: Tensor, count: number) => fused.rope(split(y, count), rotation.cos, rotation.sin);
    const [q, k, v] = forward([layer.q, layer.k, layer.v], this.#normed(x, layer.inputNorm), dropout);
    const mixed = attention.attend(index, turned(q!, heads), turned(k!, kvHeads), split(v!, kvHeads), {}); // [N, heads·D]
    return forward([layer.o], { kind: "rows", x: mixed, residual: x }, dropout)[0]!;
  }

  /** x + the gated MLP's output, [N, H]. */
  #mlp(layer: DecoderLayer, x: Tensor, dropout: DropoutSource | undefined): Tensor {
    const [gate, up] = forward([layer.gate, layer.up], this.#normed(x, layer.postNorm), dropout); // [N, I]
    return forward([layer.down], { kind: "gated", gate: gate!, up: up!, residual: x }, dropout)[0]!;
  }

  #normed(x: Tensor, norm: Tensor): LinearInput {
    return { kind: "normed", x, norm, eps: this.config.rmsNormEps };
  }
}
