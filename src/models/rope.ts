/** Rotary position embeddings; the inverse frequencies are those of transformers' modeling_rope_utils.py. */
import { type Device, ops, type Tensor } from "../torch/index.js";

/** A rotation's parameters; `type` is transformers' rope_type. Layers that turn alike share one object. */
export interface Rope {
  type: "default" | "linear" | "dynamic" | "yarn" | "longrope" | "llama3" | "proportional";
  /** Numbers of a head that are turned, an even number; those after them pass. */
  dim: number;
  /** Pairs are neighbours (2i, 2i + 1), and not the halves' (i, i + dim/2). */
  interleaved: boolean;
  theta: number;
  factor: number;
  /** Within the model's positions "dynamic" has a base that grew by this. */
  alpha?: number;
  maxPositions: number;
  originalMaxPositions: number;
  lowFreqFactor: number;
  highFreqFactor: number;
  /** Of a head's numbers the share that "proportional" turns. */
  share: number;
  shortFactor: number[];
  longFactor: number[];
  /** cos and sin are multiplied by this; undefined: what the type has. */
  attentionFactor?: number;
  betaFast: number;
  betaSlow: number;
  mscale?: number;
  mscaleAllDim?: number;
  truncate: boolean;
}

interface RopeFrequencies {
  /** [dim / 2] */
  inverse: number[];
  /** cos and sin are multiplied by this. */
  scaling: number;
}

function plain(theta: number, dim: number): number[] {
  return Array.from({ length: dim / 2 }, (_, i) => 1 / theta ** ((2 * i) / dim));
}

/** Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended. */
function llama3(rope: Rope): number[] {
  const longest = rope.originalMaxPositions / rope.lowFreqFactor;
  const shortest = rope.originalMaxPositions / rope.highFreqFactor;
  return plain(rope.theta, rope.dim).map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < shortest) return frequency;
    if (wavelength > longest) return frequency / rope.factor;
    const smooth =
      (rope.originalMaxPositions / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
    return ((1 - smooth) * frequency) / rope.factor + smooth * frequency;
  });
}

/** Dynamic NTK: the base grows with the longest sequence beyond the model's positions. */
function dynamic({ theta, factor, dim, maxPositions, alpha }: Rope, length: number): number[] {
  const longest = Math.max(length, maxPositions);
  const growth = alpha && length <= maxPositions ? alpha : (factor * longest) / maxPositions - (factor - 1);
  return plain(theta * growth ** (dim / (dim - 2)), dim);
}

/** YaRN, https://arxiv.org/abs/2309.00071: a ramp between kept and slowed frequencies, and a softer attention. */
function yarn(rope: Rope): RopeFrequencies {
  const { theta, factor, dim } = rope;
  const dimensionOf = (rotations: number) =>
    (dim * Math.log(rope.originalMaxPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(rope.betaFast);
  let high = dimensionOf(rope.betaSlow);
  if (rope.truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, dim - 1);
  if (low === high) high += 0.001; // no division by zero
  const inverse = plain(theta, dim).map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
  const scale = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const inferred = rope.mscale && rope.mscaleAllDim ? scale(rope.mscale) / scale(rope.mscaleAllDim) : scale(1);
  return { inverse, scaling: rope.attentionFactor ?? inferred };
}

/** LongRoPE, https://arxiv.org/abs/2402.13753: a factor for each frequency, one list for short sequences, one for long. */
function longrope(rope: Rope, length: number): RopeFrequencies {
  const { theta, dim, factor, originalMaxPositions: original } = rope;
  const factors = length > original ? rope.longFactor : rope.shortFactor;
  const softer = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
  return {
    inverse: plain(theta, dim).map((frequency, i) => frequency / factors[i]!),
    scaling: rope.attentionFactor ?? softer,
  };
}

/** A part of the frequencies stands still, and the rest spans the whole head. */
function proportional({ theta, dim, share, factor }: Rope): number[] {
  const turned = Math.floor((share * dim) / 2);
  return plain(theta, dim).map((frequency, i) => (i < turned ? frequency / factor : 0));
}

/** The frequencies for a batch whose longest sequence has `length` tokens. */
function ropeFrequencies(rope: Rope, length: number): RopeFrequencies {
  const { theta, dim, factor } = rope;
  switch (rope.type) {
    case "default":
      return { inverse: plain(theta, dim), scaling: 1 };
    case "linear":
      return { inverse: plain(theta, dim).map((frequency) => frequency / factor), scaling: 1 };
    case "dynamic":
      return { inverse: dynamic(rope, length), scaling: 1 };
    case "llama3":
      return { inverse: llama3(rope), scaling: 1 };
    case "proportional":
      return { inverse: proportional(rope), scaling: 1 };
    case "yarn":
      return yarn(rope);
    case "longrope":
      return longrope(rope, length);
  }
}

/** Whether the frequencies for sequences of up to `length` tokens depend on the longest of a batch. */
export function dependsOnLongest({ type, maxPositions, originalMaxPositions }: Rope, length: number): boolean {
  if (type === "dynamic") return length > maxPositions;
  return type === "longrope" && length > originalMaxPositions;
}

/** cos and sin for each token's position, [N, dim/2], float32. */
export interface Rotation {
  cos: Tensor;
  sin: Tensor;
}

/** @param longest tokens of the longest sequence in the batch */
export function rotationAt(rope: Rope, positions: ArrayLike<number>, longest: number, device: Device): Rotation {
  const { inverse, scaling } = ropeFrequencies(rope, longest);
  const angles = ops.mul(
    ops.float32(positions, [positions.length, 1], device),
    ops.float32(inverse, [1, inverse.length], device),
  ); // [N, dim/2]
  const scaled = (x: Tensor) => (scaling === 1 ? x : ops.mulScalar(x, scaling));
  return { cos: scaled(ops.cos(angles)), sin: scaled(ops.sin(angles)) };
}
