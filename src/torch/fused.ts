/** slimtune's own ops for training, typed: each is several of PyTorch's in one, forward and backward. */
import { op } from "./dispatch.js";
import type { Tensor } from "./tensor.js";

/**
 * Causal softmax(q·kᵀ/√D)·v within each of several sequences that lie end to end; q is [N, heads, D], k and v
 * [N, kv heads, D], the result [N, heads·D]. Native side: packed_attention.cc.
 * @param lengths of the sequences; they add up to N
 */
export function packedAttention(q: Tensor, k: Tensor, v: Tensor, lengths: readonly number[]): Tensor {
  return op("slimtune::packed_attention", q, k, v, lengths);
}
