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

/**
 * Σ over L rows of cross entropy × scale, a scalar in float32, with logits = Σ inputsᵢ·weightsᵢᵀ. Its one backward pass
 * gives the gradients of the inputs and of those weights that want one. Native side: linear_cross_entropy.cc.
 * @param inputs each [L, Kᵢ], of one dtype
 * @param weights each [V, Kᵢ], of any floating dtype
 * @param targets [L], int64, each a class
 * @param smoothing share of each target that is spread evenly over the classes
 */
export function linearCrossEntropy(
  inputs: readonly Tensor[],
  weights: readonly Tensor[],
  targets: Tensor,
  smoothing: number,
  scale: number,
): Tensor {
  return op("slimtune::linear_cross_entropy", inputs, weights, targets, smoothing, scale);
}
