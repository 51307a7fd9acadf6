/** The decoder: embeddings and layers of attention and MLP, as a description has them. */
import { UserError } from "../support/errors.js";
import { type Device, fused, ops, scope, type Tensor } from "../torch/index.js";
import type { AttentionDescription, LayerDescription, ModelDescription } from "./description.js";
import { type DropoutSource, forward, type Linear, type LinearInput } from "./linear.js";
import type { Precision } from "./precision.js";
import { type Rope, type Rotation, rotationAt } from "./rope.js";
import type { TrainedRows } from "./trainedRows.js";

/** What both halves of a layer do with their outputs. */
interface HalfWeights {
  norm?: fused.Norm; // of [H], before the half
  postNorm?: fused.Norm; // of [H], after it
}

export interface AttentionWeights extends HalfWeights {
  qkv: Linear[];
  o: Linear;
  qNorm?: fused.Norm;
  kNorm?: fused.Norm;
}

export interface MlpWeights extends HalfWeights {
  inputs: Linear[];
  down: Linear;
}

export interface DecoderLayer {
  description: LayerDescription;
  attention: AttentionWeights;
  mlp: MlpWeights;
  /** Whether weights of its own are trained, and not only adapters on them. */
  trained: boolean;
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
  readonly rotations: ReadonlyMap<Rope, Rotation>;
  /** What q is multiplied by, [N, 1, 1], where it depends on the position. */
  readonly queryScale: Tensor | undefined;
  readonly attention: Attention;
  readonly dropout: DropoutSource | undefined;
}

export interface DecoderParts {
  embedding: Tensor; // [V, H]
  positions: Tensor | undefined; // [positions, H], learned
  layers: DecoderLayer[];
  /** Whether the embedding or the learned positions are trained. */
  embeddingTrained: boolean;
}

export class Decoder {
  readonly description: ModelDescription;
  readonly precision: Precision;
  /** Where its weights lie. */
  readonly device: Device;
  readonly layers: readonly DecoderLayer[];
  readonly embeddingTrained: boolean;
  /** Trained rows in place of the embedding's own. */
  rows: TrainedRows | undefined;
  readonly #embedding: Tensor;
  readonly #positions: Tensor | undefined;
  readonly #ropes: readonly Rope[];

  constructor(description: ModelDescription, precision: Precision, device: Device, parts: DecoderParts) {
    this.description = description;
    this.precision = precision;
    this.device = device;
    this.layers = parts.layers;
    this.embeddingTrained = parts.embeddingTrained;
    this.#embedding = parts.embedding;
    this.#positions = parts.positions;
    this.#ropes = ropesOf(description);
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
    const rotations = this.#ropes.map((rope) => [rope, rotationAt(rope, positions, longest, this.device)] as const);
    return {
      tokens: ids.length,
      rotations: new Map(rotations),
      queryScale: this.#queryScale(positions),
      attention,
      dropout,
    };
  }

  /** What the first layer gets: [N, H], float32. */
  embed({ ids, positions, longest, dropout, noise }: DecoderInput): Tensor {
    const { embedding, hiddenSize } = this.description;
    return scope(() => {
      const row = (weight: Tensor, indices: ArrayLike<number>, padding?: number) =>
        ops.to(ops.embedding(weight, ops.int64(indices, [indices.length], this.device), padding), "float32");
      let x = row(this.#embedding, ids, embedding.padding);
      if (this.rows) x = this.rows.embedded(x, ids, embedding.padding);
      const { scale, scaledAfter } = embedding;
      const scaled = (y: Tensor) => (scale === 1 ? y : ops.mulScalar(y, scale));
      if (!scaledAfter) x = scaled(x);
      if (noise) x = ops.add(x, noise); // NEFTune's, on the output of Python's module
      if (scaledAfter) x = scaled(x);
      if (this.#positions) {
        const { count } = embedding.positions!;
        if (longest > count) {
          throw new UserError(
            `max_length: a sequence has ${longest} tokens, and this model has learned ${count} positions. Set max_length to at most ${count}.`,
          );
        }
        x = ops.add(x, row(this.#positions, positions));
      }
      return dropped(x, embedding.dropout, hiddenSize, dropout);
    });
  }

  /** One layer: [N, H] to [N, H]. */
  layer(index: number, x: Tensor, context: LayerContext): Tensor {
    const layer = this.layers[index]!;
    const { parallel } = layer.description;
    // A scope for each half: what autograd does not save is freed at once, not after the backward pass.
    const between = scope(() => this.#attention(layer, index, x, context));
    const next = scope(() => this.#mlp(layer, parallel ? x : between, between, context.dropout));
    between.dispose();
    return next;
  }

  /** x + what the attention adds, [N, H]. */
  #attention({ attention: layer, description }: DecoderLayer, index: number, x: Tensor, context: LayerContext): Tensor {
    const { attention: how, residualScale } = description;
    const { attention, dropout } = context;
    const [q, k, v] = this.#split(how, forward(layer.qkv, this.#input(x, layer.norm), dropout), context.tokens);
    const scaled = (y: Tensor) =>
      how.queryScale ? ops.mul(y, ops.to(context.queryScale!, this.precision.compute)) : y;
    const mixed = attention.attend(
      index,
      scaled(this.#turn(q!, how.heads, layer.qNorm, how, context)),
      this.#turn(k!, how.kvHeads, layer.kNorm, how, context),
      v!,
      { scale: how.scale, softcap: how.softcap, window: how.window },
    ); // [N, heads·D]
    return this.#add(layer.o, { kind: "rows", x: mixed }, { x, scale: residualScale }, layer, how.dropout, dropout);
  }

  /** residual + what the MLP makes of x, [N, H]. */
  #mlp({ mlp: layer, description }: DecoderLayer, x: Tensor, residual: Tensor, dropout?: DropoutSource): Tensor {
    const { mlp: how, residualScale } = description;
    const outputs = forward(layer.inputs, this.#input(x, layer.norm), dropout); // [N, I] each
    const joined = how.kind === "gated" && outputs.length === 1;
    const [gate, up] = joined ? ops.splitSizes(outputs[0]!, [how.size, how.size], 1) : outputs;
    const input: LinearInput = { kind: "activated", activation: how.activation, gate: gate!, up };
    return this.#add(layer.down, input, { x: residual, scale: residualScale }, layer, how.dropout, dropout);
  }

  /** The rows that layers multiply: normed, or as they are. */
  #input(x: Tensor, norm: fused.Norm | undefined): LinearInput {
    return norm ? { kind: "normed", x, norm } : { kind: "rows", x: ops.to(x, this.precision.compute) };
  }

  /** residual.x + residual.scale · postNorm(dropout(linear(input))), [N, H]; fused where it is the linear layer alone. */
  #add(
    linear: Linear,
    input: Exclude<LinearInput, { kind: "normed" }>,
    residual: fused.Residual,
    { postNorm }: HalfWeights,
    p: number,
    source: DropoutSource | undefined,
  ): Tensor {
    if (!postNorm && (p === 0 || !source)) return forward([linear], { ...input, residual }, source)[0]!;
    const y = dropped(forward([linear], input, source)[0]!, p, linear.outFeatures, source);
    if (postNorm) return fused.norm(y, postNorm, "float32", residual);
    return ops.add(residual.x, residual.scale === 1 ? y : ops.mulScalar(y, residual.scale));
  }

  /** q, [N, heads, D], k and v, [N, kv heads, D]. */
  #split({ joined, heads, kvHeads, headDim }: AttentionDescription, outputs: Tensor[], tokens: number): Tensor[] {
    if (joined === "by head") {
      const each = ops.reshape(outputs[0]!, [tokens, heads, 3 * headDim]);
      return ops.splitSizes(each, [headDim, headDim, headDim], 2);
    }
    const counts = [heads, kvHeads, kvHeads];
    const parts = joined
      ? ops.splitSizes(
          outputs[0]!,
          counts.map((count) => count * headDim),
          1,
        )
      : outputs;
    return parts.map((part, i) => ops.reshape(part, [tokens, counts[i]!, headDim]));
  }

  /** Queries or keys, [N, count, D], with their norm and rotation. */
  #turn(
    x: Tensor,
    count: number,
    norm: fused.Norm | undefined,
    how: AttentionDescription,
    context: LayerContext,
  ): Tensor {
    const { rope, qkNorm, headDim } = how;
    const { tokens, rotations } = context;
    const { compute } = this.precision;
    const over = norm ? qkNorm!.over : undefined;
    let y = x;
    if (over === "all heads") {
      const rows = fused.norm(ops.reshape(x, [tokens, count * headDim]), norm!, compute);
      y = ops.reshape(rows, [tokens, count, headDim]);
    }
    const before = over === "each head" ? norm : undefined;
    if (rope) {
      const { cos, sin } = rotations.get(rope)!;
      y = fused.rope(y, cos, sin, { interleaved: rope.interleaved, norm: before });
    } else if (before) {
      y = fused.norm(y, before, compute);
    }
    return over === "each turned head" ? fused.norm(y, norm!, compute) : y;
  }

  /** [N, 1, 1], float32. */
  #queryScale(positions: ArrayLike<number>): Tensor | undefined {
    const how = this.layers.map(({ description }) => description.attention.queryScale).find(Boolean);
    if (!how) return undefined;
    const factors = Array.from(positions, (position) => 1 + how.beta * Math.log(1 + Math.floor(position / how.every)));
    return ops.float32(factors, [positions.length, 1, 1], this.device);
  }
}

/** A model's rotations, each once. */
export function ropesOf({ layers }: ModelDescription): Rope[] {
  return [...new Set(layers.flatMap(({ attention }) => attention.rope ?? []))];
}

/** x, [N, width], with dropout of the model's own, where there is a source of it. */
function dropped(x: Tensor, p: number, width: number, source: DropoutSource | undefined): Tensor {
  if (p === 0 || !source) return x;
  return ops.mul(x, source.mask(p, width));
}
