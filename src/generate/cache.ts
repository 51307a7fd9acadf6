/** Keys and values of sequences that are continued together, and attention through them. */
import { type AttentionShape, attentionWeights } from "../models/attentionWeights.js";
import type { Attention } from "../models/decoder.js";
import { PackedAttention } from "../models/packedAttention.js";
import { type fused, keep, ops, scope, type Tensor } from "../torch/index.js";

/** Positions that the cache grows by. */
const BLOCK = 128;

interface LayerCache {
  k: Tensor; // [B, kv heads, capacity, D]
  v: Tensor;
}

/** Sequences are aligned at their ends, so that each new token lands at the same place for all of them. */
export class KeyValueCache {
  /** Lengths of the prompts. */
  readonly lengths: readonly number[];
  readonly #shape: AttentionShape;
  readonly #layers: LayerCache[] = [];
  #used: number;
  #capacity: number;

  constructor(lengths: readonly number[], shape: AttentionShape) {
    this.lengths = lengths;
    this.#shape = shape;
    this.#used = Math.max(...lengths);
    this.#capacity = Math.ceil((this.#used + 1) / BLOCK) * BLOCK;
  }

  /** Attention within the prompts, which fills the cache. */
  prefill(): Attention {
    const packed = new PackedAttention(this.lengths, this.#shape.device);
    return {
      attend: (layer, q, k, v, options) => {
        this.#layers[layer] = { k: this.#place(k), v: this.#place(v) };
        return packed.attend(layer, q, k, v, options);
      },
    };
  }

  /** Attention from one new token of each sequence to all before it. */
  step(): Attention {
    const { heads, kvHeads, headDim } = this.#shape;
    const rows = this.lengths.length;
    const mask = this.#grow();
    return {
      attend: (layer, q, k, v, options) => {
        const cache = this.#layers[layer]!;
        ops.copy_(ops.narrow(cache.k, 2, this.#used - 1, 1), ops.reshape(k, [rows, kvHeads, 1, headDim]));
        ops.copy_(ops.narrow(cache.v, 2, this.#used - 1, 1), ops.reshape(v, [rows, kvHeads, 1, headDim]));
        const { window = 0 } = options;
        const begin = window > 0 ? Math.max(0, this.#used - window) : 0;
        const seen = (x: Tensor, dim: number) => ops.narrow(x, dim, begin, this.#used - begin);
        const query = ops.reshape(q, [rows, kvHeads, heads / kvHeads, headDim]);
        const y = this.#attend(query, seen(cache.k, 2), seen(cache.v, 2), mask && seen(mask, 3), options);
        return ops.reshape(y, [rows, heads * headDim]);
      },
    };
  }

  /** q is [B, kv heads, heads of each, D], as is the result; k and v are [B, kv heads, places, D]. */
  #attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | undefined, options: fused.AttentionOptions): Tensor {
    const { scale, softcap = 0 } = options;
    if (softcap === 0) return ops.attention(q, k, v, mask, scale);
    const { headDim, dtype } = this.#shape;
    const weights = attentionWeights(ops.matmul(q, ops.transpose(k, 2, 3)), mask, headDim, options);
    return ops.matmul(ops.to(weights, dtype), v);
  }

  /** [N, kv heads, D] of the packed prompts, to [B, kv heads, capacity, D]. */
  #place(x: Tensor): Tensor {
    const { kvHeads, headDim, dtype, device } = this.#shape;
    const cache = keep(ops.zeros([this.lengths.length, kvHeads, this.#capacity, headDim], dtype, device));
    let start = 0;
    this.lengths.forEach((length, row) => {
      const place = ops.narrow(ops.select(cache, 0, row), 1, this.#used - length, length); // [kv heads, T, D]
      ops.copy_(place, ops.transpose(ops.narrow(x, 0, start, length), 0, 1));
      start += length;
    });
    return cache;
  }

  /** Takes a place more; returns what hides shorter sequences' padding, where there is any: [B, 1, 1, places], 0 or -∞. */
  #grow(): Tensor | undefined {
    const { kvHeads, headDim, dtype, device } = this.#shape;
    const rows = this.lengths.length;
    this.#used++;
    if (this.#used > this.#capacity) {
      const longer = (x: Tensor): Tensor => {
        const wide = keep(scope(() => ops.cat([x, ops.zeros([rows, kvHeads, BLOCK, headDim], dtype, device)], 2)));
        x.dispose();
        return wide;
      };
      for (const layer of this.#layers) {
        layer.k = longer(layer.k);
        layer.v = longer(layer.v);
      }
      this.#capacity += BLOCK;
    }
    const longest = Math.max(...this.lengths);
    if (this.lengths.every((length) => length === longest)) return undefined;
    const hidden = this.lengths.flatMap((length) =>
      Array.from({ length: this.#used }, (_, place) => (place >= longest - length ? 0 : Number.NEGATIVE_INFINITY)),
    );
    return ops.to(ops.float32(hidden, [rows, 1, 1, this.#used], device), dtype);
  }

  dispose(): void {
    for (const { k, v } of this.#layers) {
      k.dispose();
      v.dispose();
    }
  }
}
