/** Gradients of leaves. */
import { opInPlace } from "./dispatch.js";
import { loadNative } from "./native.js";
import { Tensor } from "./tensor.js";

/** Makes a leaf collect gradients, or stop doing so. */
export function setRequiresGrad(leaf: Tensor, requires: boolean): void {
  opInPlace("aten::requires_grad_", leaf, requires);
}

/** Adds d tensor / d leaf to every leaf's gradient; without `gradient` the tensor is a scalar. */
export function backward(tensor: Tensor, gradient?: Tensor): void {
  loadNative().backward(tensor.handle, gradient?.handle ?? null);
}

/** The leaf's gradient; using it fails when no backward pass reached the leaf. */
export function gradOf(leaf: Tensor): Tensor {
  return new Tensor(loadNative().grad(leaf.handle));
}

/** Frees the leaf's gradient. */
export function clearGrad(leaf: Tensor): void {
  loadNative().setGrad(leaf.handle, null);
}
