/** slimtune's own ops for training, typed: each is several of PyTorch's in one, forward and backward. */
import { opMany } from "./dispatch.js";
import type { DType } from "./native.js";
import type { Tensor } from "./tensor.js";

/** Linear layers that share an input; lists run over the layers. Native side: fused_linears.cc. */
export interface LinearGroup {
  weights: Tensor[]; // [out, in], in any floating dtype
  biases: (Tensor | undefined)[]; // [out]
  a: (Tensor | undefined)[]; // [r, in]: LoRA's matrices, together or not at all
  b: (Tensor | undefined)[]; // [out, r]
  scalings: number[];
  masks: (Tensor | undefined)[]; // [N, in]: multiplies the input of A
}

const lists = ({ weights, biases, a, b, scalings, masks }: LinearGroup) => [weights, biases, a, b, scalings, masks];

/** x·Wᵀ + bias + scaling·((mask∘x)·Aᵀ)·Bᵀ for each layer, [N, out], and the residual added to it (one layer only). */
export function linears(x: Tensor, group: LinearGroup, residual?: Tensor): Tensor[] {
  return opMany("slimtune::linears", [x, residual, ...lists(group)], group.weights.length);
}

/** The same of rms-normed rows: x / rms(x) · norm, which is not kept but made again in the backward pass. */
export function normedLinears(x: Tensor, norm: Tensor, eps: number, compute: DType, group: LinearGroup): Tensor[] {
  return opMany("slimtune::normed_linears", [x, norm, eps, compute, ...lists(group)], group.weights.length);
}

/** The same of silu(gate)·up, which is not kept either. */
export function gatedLinears(gate: Tensor, up: Tensor, group: LinearGroup, residual?: Tensor): Tensor[] {
  return opMany("slimtune::gated_linears", [gate, up, residual, ...lists(group)], group.weights.length);
}
