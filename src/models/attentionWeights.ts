/** The softmax of attention by PyTorch's own ops, where a kernel does not serve. */
import { type Device, type DType, type fused, ops, type Tensor } from "../torch/index.js";

export interface AttentionShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  dtype: DType; // of q, k and v
  device: Device;
}

/**
 * @param product q·kᵀ, [..., T, S]
 * @param hidden added to the scores, 0 or -∞
 * @returns weights of the keys, [..., T, S], float32
 */
export function attentionWeights(
  product: Tensor,
  hidden: Tensor | undefined,
  headDim: number,
  { scale = 1 / Math.sqrt(headDim), softcap = 0 }: fused.AttentionOptions,
): Tensor {
  const scores = ops.mulScalar(ops.to(product, "float32"), softcap > 0 ? scale / softcap : scale);
  const capped = softcap > 0 ? ops.mulScalar(ops.tanh(scores), softcap) : scores;
  return ops.softmax(hidden ? ops.add(capped, hidden) : capped, -1);
}
