/** slimtune's own ops for training, typed: each is several of PyTorch's in one, forward and backward. */
import type { Device } from "./device.js";
import { op, opMany } from "./dispatch.js";
import type { DType } from "./native.js";
import { fromBytes } from "./ops.js";
import type { Tensor } from "./tensor.js";

/** Linear layers that share an input; lists run over the layers. Native side: fused_linears.cc. */
export interface LinearGroup {
  weights: Tensor[]; // [out, in], in any floating dtype; or the codes of a quantized weight
  /** For each layer what else its quantized weight is stored in; none where it is not, and when left out. */
  scales?: (readonly Tensor[])[];
  biases: (Tensor | undefined)[]; // [out]
  a: (Tensor | undefined)[]; // [r, in]: LoRA's matrices, together or not at all
  b: (Tensor | undefined)[]; // [out, r]
  scalings: number[];
  masks: (Tensor | undefined)[]; // [N, in]: multiplies the input of A
}

function lists({ weights, scales, biases, a, b, scalings, masks }: LinearGroup): unknown[] {
  const stored = weights.map((weight, i) => [weight, ...(scales?.[i] ?? [])]);
  return [stored.flat(), stored.map(({ length }) => length), biases, a, b, scalings, masks];
}

/** How rows are normed: y = x̂ · (weight + offset) + bias. Native side: norm.cc. */
export interface Norm {
  /** rms: x̂ = x / √(mean x² + eps); layer: x̂ = (x - mean x) / √(variance x + eps) */
  kind: "rms" | "layer";
  weight: Tensor; // [W]
  bias?: Tensor | undefined; // [W]
  eps: number;
  offset: number;
}

/** Of MLPs; gelu is the exact one, by erf, and relu2 is relu(x)². */
export type Activation = "silu" | "gelu" | "gelu_tanh" | "relu2" | "relu";

/** What an output is added to, times a factor: x + scale · output, in x's dtype. */
export interface Residual {
  x: Tensor; // [N, out]
  scale: number;
}

/** x·Wᵀ + bias + scaling·((mask∘x)·Aᵀ)·Bᵀ for each layer, [N, out]; with a residual (one layer only) what it is added to. */
export function linears(x: Tensor, group: LinearGroup, residual?: Residual): Tensor[] {
  const args = [x, residual?.x, residual?.scale ?? 1, ...lists(group)];
  return opMany("slimtune::linears", args, group.weights.length);
}

/** The same of normed rows, in the dtype `compute`, which are not kept but made again in the backward pass. */
export function normedLinears(x: Tensor, norm: Norm, compute: DType, group: LinearGroup): Tensor[] {
  const { weight, bias, kind, eps, offset } = norm;
  const args = [x, weight, bias, kind, eps, offset, compute, ...lists(group)];
  return opMany("slimtune::normed_linears", args, group.weights.length);
}

/** The same of activation(gate)·up, or of activation(gate) without an up; not kept either. Rows may have gaps. */
export function gatedLinears(
  activation: Activation,
  gate: Tensor, // [N, I]
  up: Tensor | undefined, // [N, I]
  group: LinearGroup,
  residual?: Residual,
): Tensor[] {
  const args = [activation, gate, up, residual?.x, residual?.scale ?? 1, ...lists(group)];
  return opMany("slimtune::gated_linears", args, group.weights.length);
}

/**
 * The norm by itself, over the last dimension of x, in `dtype`; or residual.x + scale · the normed, in the residual's
 * dtype, rounded once. x is [N, W] or [N, heads, W], the residual and the result like it.
 */
export function norm(x: Tensor, norm: Norm, dtype: DType, residual?: Residual): Tensor {
  const { weight, bias, kind, eps, offset } = norm;
  return op("slimtune::norm", x, weight, bias, kind, eps, offset, dtype, residual?.x, residual?.scale ?? 1);
}

/** What a layer does with its scores, q·kᵀ·scale, before the softmax. */
export interface AttentionOptions {
  /** 1/√D when left out. */
  scale?: number;
  /** c > 0: scores become c·tanh(scores / c). */
  softcap?: number;
  /** w > 0: a query at position i sees the keys at i - w + 1 to i; 0: all up to its own. */
  window?: number;
}

/**
 * Causal softmax(q·kᵀ·scale)·v within each of several sequences that lie end to end; q is [N, heads, D], k and v
 * [N, kv heads, D], the result [N, heads·D]. Native side: packed_attention.cc.
 * @param lengths of the sequences; they add up to N
 * @param offsets `sequenceOffsets` of these lengths, made once for all layers; without them a GPU is sent them in each call
 */
export function packedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  lengths: readonly number[],
  offsets?: Tensor,
  { scale, softcap, window }: AttentionOptions = {},
): Tensor {
  return op("slimtune::packed_attention", q, k, v, lengths, offsets, scale, softcap, window);
}

/** Where each sequence begins, and at last N: [sequences + 1], int32. */
export function sequenceOffsets(lengths: readonly number[], device: Device): Tensor {
  const begins = Int32Array.of(0, ...lengths);
  for (let i = 1; i < begins.length; i++) begins[i]! += begins[i - 1]!;
  return fromBytes(begins, "int32", [begins.length], device);
}

export interface RopeOptions {
  /** Pairs are (2i, 2i + 1), and not (i, i + R/2). */
  interleaved?: boolean | undefined;
  /** Each head is normed before it is turned; weight and bias are [D]. The normed heads are not kept. */
  norm?: Norm | undefined;
}

/**
 * Rotary position embedding of the first R elements of each head; the others pass through. x is [N, heads, D], cos and sin
 * [N, R/2] with R ≤ D, the result like x. Native side: rope.cc.
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor, { interleaved = false, norm }: RopeOptions = {}): Tensor {
  const normed = norm ? [norm.weight, norm.bias, norm.kind, norm.eps, norm.offset] : [];
  return op("slimtune::rope", x, cos, sin, interleaved, ...normed);
}

/**
 * Σ over L rows of cross entropy × scale, a scalar in float32, with logits = Σ inputsᵢ·weightsᵢᵀ. Its one backward pass
 * gives the gradients of the inputs and of those weights that want one. Native side: linear_cross_entropy.cc.
 * @param inputs each [L, Kᵢ], of one dtype
 * @param weights each [V, Kᵢ], of any floating dtype
 * @param targets [L], int64, each a class
 * @param smoothing share of each target that is spread evenly over the classes
 * @param softcap c > 0: the logits are c·tanh(logits / c)
 */
export function linearCrossEntropy(
  inputs: readonly Tensor[],
  weights: readonly Tensor[],
  targets: Tensor,
  smoothing: number,
  scale: number,
  softcap = 0,
): Tensor {
  return op("slimtune::linear_cross_entropy", inputs, weights, targets, smoothing, scale, softcap);
}

/**
 * The tensors of a weight in 4 bits, in bitsandbytes' layout (native side: quantized_weight.h): codes uint8 [out, in/2]
 * and what scales them, 2 tensors or, with double quantization, 5. `weight` is [out, in] with an even `in`.
 */
export function quantize4bit(weight: Tensor, type: "nf4" | "fp4", doubleQuantization: boolean): Tensor[] {
  return opMany("slimtune::quantize_4bit", [weight, type, doubleQuantization], doubleQuantization ? 6 : 3);
}

/** The tensors of a weight in 8 bits: codes int8 [out, in], and the largest magnitude of each row, [out]. */
export function quantize8bit(weight: Tensor): Tensor[] {
  return opMany("slimtune::quantize_8bit", [weight], 2);
}

/** The numbers that a quantized weight stands for, [out, in]. */
export function dequantize(codes: Tensor, scales: readonly Tensor[], dtype: DType): Tensor {
  return op("slimtune::dequantize", [codes, ...scales], dtype);
}
