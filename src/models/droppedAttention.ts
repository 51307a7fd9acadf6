/** Attention that drops some of its weights in training, as Python's does. */
import { type fused, ops, type Tensor } from "../torch/index.js";
import { type AttentionShape, attentionWeights } from "./attentionWeights.js";
import type { Attention } from "./decoder.js";
import type { PaddedRandom } from "./paddedRandom.js";

export class DroppedAttention implements Attention {
  readonly #lengths: readonly number[];
  readonly #random: PaddedRandom;
  readonly #dropout: number;
  readonly #shape: AttentionShape;
  /** For the longest sequence, [T, T]; the others' is its corner. */
  readonly #later: Tensor;

  /**
   * @param lengths of the sequences that lie end to end, each within a row of the random source's
   * @param dropout the share of the weights that become 0
   */
  constructor(lengths: readonly number[], random: PaddedRandom, dropout: number, shape: AttentionShape) {
    this.#lengths = lengths;
    this.#random = random;
    this.#dropout = dropout;
    this.#shape = shape;
    this.#later = this.#hidden(Math.max(0, ...lengths), 0);
  }

  attend(_layer: number, q: Tensor, k: Tensor, v: Tensor, options: fused.AttentionOptions): Tensor {
    const { heads, kvHeads, headDim, dtype } = this.#shape;
    const { window = 0 } = options;
    const masks = this.#random.weightMasks(this.#dropout, heads, this.#lengths);
    let start = 0;
    const parts = this.#lengths.map((length, i) => {
      const rows = (x: Tensor) => ops.transpose(ops.narrow(x, 0, start, length), 0, 1); // [heads, T, D]
      const queries = ops.reshape(rows(q), [kvHeads, -1, headDim]); // heads of a group, one's positions after the other's
      const product = ops.reshape(ops.matmul(queries, ops.transpose(rows(k), 1, 2)), [heads, length, length]);
      const hidden =
        window > 0 && window < length
          ? this.#hidden(length, window)
          : ops.narrow(ops.narrow(this.#later, 0, 0, length), 1, 0, length);
      const kept = ops.mul(attentionWeights(product, hidden, headDim, options), masks[i]!); // [heads, T, T]
      const weights = ops.reshape(ops.to(kept, dtype), [kvHeads, -1, length]);
      const y = ops.reshape(ops.matmul(weights, rows(v)), [heads, length, headDim]);
      start += length;
      return ops.reshape(ops.transpose(y, 0, 1), [length, heads * headDim]);
    });
    return ops.cat(parts);
  }

  /** -∞ where a position does not see a key, else 0: [T, T]. */
  #hidden(length: number, window: number): Tensor {
    const values = new Float32Array(length * length).fill(Number.NEGATIVE_INFINITY);
    for (let i = 0; i < length; i++) {
      const first = window > 0 ? Math.max(0, i - window + 1) : 0;
      values.fill(0, i * length + first, i * length + i + 1);
    }
    return ops.fromBytes(values, "float32", [length, length], this.#shape.device);
  }
}
