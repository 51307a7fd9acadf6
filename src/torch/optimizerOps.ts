/**
 * One update of many parameters by one op. Tensors are float32 and contiguous; `gradientScale` multiplies every gradient
 * first, which is how clipping costs no pass of its own.
 */
import { op, opInPlace } from "./dispatch.js";
import type { Tensor } from "./tensor.js";

export interface Rates {
  lr: number;
  weightDecay: number;
  gradientScale: number;
  /** [] in float32: becomes 1 where a weight or state that the update made is not finite. */
  nonfinite: Tensor;
}

export interface ElementwiseTensors {
  parameters: Tensor[];
  gradients: Tensor[];
  /** All parameters' first states, then their second ones: float32, or with `scales` 8-bit codes (uint8). */
  states: Tensor[];
  /** Float32, one for each 256 elements of the state at the same place; none where the states are float32. */
  scales: Tensor[];
}

export interface AdamWOptions extends Rates {
  /** This update, counted from 1. */
  step: number;
  beta1: number;
  beta2: number;
  eps: number;
}

/** torch.optim's, with the bits of PyTorch's fused op; states are float32. */
export function torchAdamWStep_({ parameters, gradients, states }: ElementwiseTensors, options: AdamWOptions): void {
  const { step, beta1, beta2, eps } = options;
  opInPlace("slimtune::torch_adamw_step_", parameters, gradients, states, ...rates(options), step, beta1, beta2, eps);
}

/** bitsandbytes'. */
export function adamWStep_(tensors: ElementwiseTensors, options: AdamWOptions): void {
  const { step, beta1, beta2, eps } = options;
  opInPlace("slimtune::adamw_step_", ...lists(tensors), ...rates(options), step, beta1, beta2, eps);
}

export function lionStep_(tensors: ElementwiseTensors, options: Rates & { beta1: number; beta2: number }): void {
  opInPlace("slimtune::lion_step_", ...lists(tensors), ...rates(options), options.beta1, options.beta2);
}

/** `alpha` and `beta3` are those of this update. */
export function adEMAMixStep_(
  tensors: ElementwiseTensors,
  options: AdamWOptions & { beta3: number; alpha: number },
): void {
  const { step, beta1, beta2, beta3, alpha, eps } = options;
  opInPlace("slimtune::ademamix_step_", ...lists(tensors), ...rates(options), step, beta1, beta2, beta3, alpha, eps);
}

export interface RMSpropOptions extends Rates {
  alpha: number;
  eps: number;
  momentum: number;
  centered: boolean;
}

export function rmspropStep_(tensors: ElementwiseTensors, options: RMSpropOptions): void {
  const { alpha, eps, momentum, centered } = options;
  opInPlace("slimtune::rmsprop_step_", ...lists(tensors), ...rates(options), alpha, eps, momentum, centered);
}

export interface SGDOptions extends Rates {
  momentum: number;
  dampening: number;
  nesterov: boolean;
}

export function sgdStep_({ parameters, gradients, states }: ElementwiseTensors, options: SGDOptions): void {
  const { momentum, dampening, nesterov } = options;
  opInPlace("slimtune::sgd_step_", parameters, gradients, states, ...rates(options), momentum, dampening, nesterov);
}

export function adagradStep_(
  { parameters, gradients, states }: ElementwiseTensors,
  options: Rates & { eps: number },
): void {
  opInPlace("slimtune::adagrad_step_", parameters, gradients, states, ...rates(options), options.eps);
}

export interface AdafactorTensors {
  /** Matrices and vectors. */
  parameters: Tensor[];
  gradients: Tensor[];
  /** Of a matrix [R, C] the mean squares of its rows [R] and of its columns [C], of a vector [N]. */
  states: Tensor[];
  /** Of `adafactorWorkspace` for these parameters, or for more. */
  workspace: Tensor;
}

export interface AdafactorOptions extends Rates {
  /** Of the mean squares, at this update. */
  decay: number;
  eps: number;
  clipThreshold: number;
}

/** What updates of these parameters work in. */
export function adafactorWorkspace(parameters: Tensor[]): Tensor {
  return op("slimtune::adafactor_workspace", parameters);
}

export function adafactorStep_(tensors: AdafactorTensors, options: AdafactorOptions): void {
  const { parameters, gradients, states, workspace } = tensors;
  const { decay, eps, clipThreshold } = options;
  const lists = [parameters, gradients, states, workspace];
  opInPlace("slimtune::adafactor_step_", ...lists, ...rates(options), decay, eps, clipThreshold);
}

const lists = ({ parameters, gradients, states, scales }: ElementwiseTensors) => [
  parameters,
  gradients,
  states,
  scales,
];
const rates = ({ nonfinite, gradientScale, lr, weightDecay }: Rates) => [nonfinite, gradientScale, lr, weightDecay];
