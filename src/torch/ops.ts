/**
 * The ATen ops in use, typed. Each enqueues and returns at once; a wrong shape rejects the next await with the op's
 * name and its inputs' shapes. Names and meaning are PyTorch's.
 */
import type { Device } from "./device.js";
import { op, opInPlace, opMany } from "./dispatch.js";
import { type DType, loadNative } from "./native.js";
import type { RandomGenerator } from "./random.js";
import { Tensor } from "./tensor.js";

// --- making tensors ---

/** A tensor with a copy of the bytes; nobody waits for its way to a GPU. */
export function fromBytes(
  bytes: ArrayBufferView | ArrayBuffer,
  dtype: DType,
  shape: number[],
  device: Device = "cpu",
): Tensor {
  return new Tensor(loadNative().fromBytes(bytes, dtype, shape, device));
}

export function int64(values: ArrayLike<number>, shape: number[] = [values.length], device: Device = "cpu"): Tensor {
  const wide = new BigInt64Array(values.length);
  for (let i = 0; i < values.length; i++) wide[i] = BigInt(values[i]!);
  return fromBytes(wide, "int64", shape, device);
}

export function float32(values: ArrayLike<number>, shape: number[] = [values.length], device: Device = "cpu"): Tensor {
  return fromBytes(Float32Array.from(values), "float32", shape, device);
}

export function empty(shape: number[], dtype: DType = "float32", device: Device = "cpu"): Tensor {
  return op("aten::empty.memory_format", shape, dtype, undefined, device);
}

export function zeros(shape: number[], dtype: DType = "float32", device: Device = "cpu"): Tensor {
  return op("aten::zeros", shape, dtype, undefined, device);
}

/** A permutation of 0..n-1, the same as Python's for the same generator (by default the default one). */
export function randperm(n: number, generator?: RandomGenerator): Tensor {
  return generator ? op("aten::randperm.generator", n, generator.handle) : op("aten::randperm", n);
}

// --- in place ---

export function uniform_(x: Tensor, low: number, high: number): void {
  opInPlace("aten::uniform_", x, low, high);
}

export function normal_(x: Tensor, mean: number, std: number): void {
  opInPlace("aten::normal_", x, mean, std);
}

/** 1 with probability p, else 0. */
export function bernoulli_(x: Tensor, p: number): void {
  opInPlace("aten::bernoulli_.float", x, p);
}

/** One draw of int64 from the default generator, as a data loader of PyTorch makes at each of its starts. */
export function random_(x: Tensor): void {
  opInPlace("aten::random_", x);
}

export function copy_(target: Tensor, source: Tensor): void {
  opInPlace("aten::copy_", target, source);
}

export function zero_(x: Tensor): void {
  opInPlace("aten::zero_", x);
}

// --- shape ---

export function reshape(x: Tensor, shape: number[]): Tensor {
  return op("aten::reshape", x, shape);
}

export function transpose(x: Tensor, dim0: number, dim1: number): Tensor {
  return op("aten::transpose.int", x, dim0, dim1);
}

export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  return op("aten::narrow", x, dim, start, length);
}

/** Parts of these sizes along a dimension, which they fill: views. */
export function splitSizes(x: Tensor, sizes: number[], dim: number): Tensor[] {
  return opMany("aten::split_with_sizes", [x, sizes, dim], sizes.length);
}

/** The index-th slice along a dimension, which goes. */
export function select(x: Tensor, dim: number, index: number): Tensor {
  return op("aten::select.int", x, dim, index);
}

export function unsqueeze(x: Tensor, dim: number): Tensor {
  return op("aten::unsqueeze", x, dim);
}

export function cat(tensors: Tensor[], dim = 0): Tensor {
  return op("aten::cat", tensors, dim);
}

export function stack(tensors: Tensor[]): Tensor {
  return op("aten::stack", tensors);
}

export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  return op("aten::index_select", x, dim, index);
}

export function to(x: Tensor, dtype: DType): Tensor {
  return op("aten::to.dtype", x, dtype);
}

/** The tensor itself where it is there already in that dtype (undefined: its own), else a copy. */
export function toDevice(x: Tensor, device: Device, dtype?: DType): Tensor {
  return op("aten::to.dtype_layout", x, dtype, undefined, device);
}

export function clone(x: Tensor): Tensor {
  return op("aten::clone", x);
}

export function detach(x: Tensor): Tensor {
  return op("aten::detach", x);
}

// --- arithmetic ---

export function add(x: Tensor, y: Tensor): Tensor {
  return op("aten::add.Tensor", x, y);
}

export function addScalar(x: Tensor, value: number): Tensor {
  return op("aten::add.Scalar", x, value);
}

export function mul(x: Tensor, y: Tensor): Tensor {
  return op("aten::mul.Tensor", x, y);
}

export function mulScalar(x: Tensor, value: number): Tensor {
  return op("aten::mul.Scalar", x, value);
}

export function div(x: Tensor, y: Tensor): Tensor {
  return op("aten::div.Tensor", x, y);
}

export function neg(x: Tensor): Tensor {
  return op("aten::neg", x);
}

export function square(x: Tensor): Tensor {
  return op("aten::square", x);
}

export function sqrt(x: Tensor): Tensor {
  return op("aten::sqrt", x);
}

export function rsqrt(x: Tensor): Tensor {
  return op("aten::rsqrt", x);
}

export function cos(x: Tensor): Tensor {
  return op("aten::cos", x);
}

export function sin(x: Tensor): Tensor {
  return op("aten::sin", x);
}

export function exp(x: Tensor): Tensor {
  return op("aten::exp", x);
}

export function tanh(x: Tensor): Tensor {
  return op("aten::tanh", x);
}

export function softmax(x: Tensor, dim: number): Tensor {
  return op("aten::softmax.int", x, dim);
}

export function logSoftmax(x: Tensor, dim: number): Tensor {
  return op("aten::log_softmax.int", x, dim);
}

export function silu(x: Tensor): Tensor {
  return op("aten::silu", x);
}

/** By erf, or approximately by tanh. */
export function gelu(x: Tensor, approximate: "none" | "tanh" = "none"): Tensor {
  return op("aten::gelu", x, approximate);
}

export function relu(x: Tensor): Tensor {
  return op("aten::relu", x);
}

export function mean(x: Tensor, dim: number, keepdim: boolean): Tensor {
  return op("aten::mean.dim", x, [dim], keepdim);
}

export function sum(x: Tensor): Tensor {
  return op("aten::sum", x);
}

export function sumDim(x: Tensor, dim: number): Tensor {
  return op("aten::sum.dim_IntList", x, [dim]);
}

export function matmul(x: Tensor, y: Tensor): Tensor {
  return op("aten::matmul", x, y);
}

/** x · weightᵀ + bias; weight is [out, in]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return op("aten::linear", x, weight, bias);
}

export function embedding(weight: Tensor, ids: Tensor, padding = -1): Tensor {
  return op("aten::embedding", weight, ids, padding);
}

export function argmax(x: Tensor, dim: number): Tensor {
  return op("aten::argmax", x, dim);
}

// --- factors of a matrix [m, n], with k = min(m, n) ---

/** x = q·r: [m, k] with orthonormal columns, and [k, n], upper triangular. */
export function qr(x: Tensor): [q: Tensor, r: Tensor] {
  return opMany("aten::linalg_qr", [x]) as [Tensor, Tensor];
}

/** x = u·diag(s)·vh: [m, k], [k] from the largest down, [k, n]; with full matrices u is [m, m] and vh [n, n]. */
export function svd(x: Tensor, fullMatrices = false): [u: Tensor, s: Tensor, vh: Tensor] {
  return opMany("aten::linalg_svd", [x, fullMatrices]) as [Tensor, Tensor, Tensor];
}

/**
 * softmax(q·kᵀ·scale + mask)·v; q is [B, heads, T, D], k and v are [B, heads, S, D].
 * @param mask of q's dtype
 * @param scale 1/√D when left out
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, mask?: Tensor, scale?: number): Tensor {
  return op("aten::scaled_dot_product_attention", q, k, v, mask, 0, false, scale);
}

/**
 * For each row (1 - smoothing) · -log softmax(logits)[target] + smoothing · the mean of -log softmax(logits) over the
 * classes.
 */
export function crossEntropyEach(logits: Tensor, targets: Tensor, smoothing = 0): Tensor {
  return op("aten::cross_entropy_loss", logits, targets, null, 0, -100, smoothing);
}

// --- over many tensors at once ---

/** The L2 norm of each tensor. */
export function foreachNorm(tensors: Tensor[]): Tensor[] {
  return opMany("aten::_foreach_norm.Scalar", [tensors], tensors.length);
}

/** The largest absolute value of each tensor; infinite or NaN where it has such a number. */
export function foreachLargest(tensors: Tensor[]): Tensor[] {
  return opMany("aten::_foreach_norm.Scalar", [tensors, Number.POSITIVE_INFINITY], tensors.length);
}

/** The L2 norm of all elements of all tensors, which are float32 and contiguous: [], summed in float64. */
export function gradNorm(gradients: Tensor[]): Tensor {
  return op("slimtune::grad_norm", gradients);
}
