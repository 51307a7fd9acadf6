/** Causal attention within each of several sequences that lie end to end. */
import { ops, type Tensor } from "../torch/index.js";
import type { Attention } from "./decoder.js";

export class PackedAttention implements Attention {
  readonly #lengths: readonly number[];

  constructor(lengths: readonly number[]) {
    this.#lengths = lengths;
  }

  attend(_layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor {
    let start = 0;
    const parts = this.#lengths.map((length) => {
      const rows = (x: Tensor) =>
        ops.unsqueeze(ops.transpose(this.#lengths.length === 1 ? x : ops.narrow(x, 0, start, length), 0, 1), 0); // [1, heads, T, D]
      const y = ops.attention(rows(q), rows(k), rows(v), { causal: true, grouped: true });
      start += length;
      return ops.reshape(ops.transpose(y, 1, 2), [length, -1]); // [T, heads·D]
    });
    return parts.length === 1 ? parts[0]! : ops.cat(parts);
  }
}
