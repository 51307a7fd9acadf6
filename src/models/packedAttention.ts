/** Causal attention within each of several sequences that lie end to end. */
import { fused, type Tensor } from "../torch/index.js";
import type { Attention } from "./decoder.js";

export class PackedAttention implements Attention {
  readonly #lengths: readonly number[];

  constructor(lengths: readonly number[]) {
    this.#lengths = lengths;
  }

  attend(_layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor {
    return fused.packedAttention(q, k, v, this.#lengths);
  }
}
