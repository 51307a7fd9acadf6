/** Rotary position embeddings; the inverse frequencies are those of transformers' modeling_rope_utils.py. */
import { type Device, ops, type Tensor } from "../torch/index.js";
import type { ModelConfig } from "./config.js";

interface RopeFrequencies {
  /** [head dim / 2] */
  inverse: number[];
  /** cos and sin are multiplied by this. */
  scaling: number;
}

function plain(theta: number, dim: number): number[] {
  return Array.from({ length: dim / 2 }, (_, i) => 1 / theta ** ((2 * i) / dim));
}

/** Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended. */
function llama3({ rope, headDim }: ModelConfig): number[] {
  const longest = rope.originalMaxPositions / rope.lowFreqFactor;
  const shortest = rope.originalMaxPositions / rope.highFreqFactor;
  return plain(rope.theta, headDim).map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < shortest) return frequency;
    if (wavelength > longest) return frequency / rope.factor;
    const smooth =
      (rope.originalMaxPositions / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
    return ((1 - smooth) * frequency) / rope.factor + smooth * frequency;
  });
}

/** Dynamic NTK: the base grows with the longest sequence beyond the model's positions. */
function dynamic({ rope, headDim, maxPositions }: ModelConfig, length: number): number[] {
  const longest = Math.max(length, maxPositions);
  const growth = (rope.factor * longest) / maxPositions - (rope.factor - 1);
  return plain(rope.theta * growth ** (headDim / (headDim - 2)), headDim);
}

/** YaRN, https://arxiv.org/abs/2309.00071: a ramp between kept and slowed frequencies, and a softer attention. */
function yarn({ rope, headDim }: ModelConfig): RopeFrequencies {
  const { theta, factor } = rope;
  const dimensionOf = (rotations: number) =>
    (headDim * Math.log(rope.originalMaxPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(rope.betaFast);
  let high = dimensionOf(rope.betaSlow);
  if (rope.truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, headDim - 1);
  if (low === high) high += 0.001; // no division by zero
  const inverse = plain(theta, headDim).map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
  const scale = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const inferred = rope.mscale && rope.mscaleAllDim ? scale(rope.mscale) / scale(rope.mscaleAllDim) : scale(1);
  return { inverse, scaling: rope.attentionFactor ?? inferred };
}

/** The frequencies for a batch whose longest sequence has `length` tokens, which only dynamic ones depend on. */
function ropeFrequencies(config: ModelConfig, length: number): RopeFrequencies {
  const { rope, headDim } = config;
  switch (rope.type) {
    case "default":
      return { inverse: plain(rope.theta, headDim), scaling: 1 };
    case "linear":
      return { inverse: plain(rope.theta, headDim).map((frequency) => frequency / rope.factor), scaling: 1 };
    case "dynamic":
      return { inverse: dynamic(config, length), scaling: 1 };
    case "llama3":
      return { inverse: llama3(config), scaling: 1 };
    case "yarn":
      return yarn(config);
  }
}

/** cos and sin for each token's position, [N, D/2], float32. */
export interface Rotation {
  cos: Tensor;
  sin: Tensor;
}

/** A model's rotary embedding; the frequencies that do not depend on a sequence are made once. */
export class Rotary {
  readonly #config: ModelConfig;
  readonly #device: Device;
  readonly #fixed: RopeFrequencies | undefined;

  constructor(config: ModelConfig, device: Device) {
    this.#config = config;
    this.#device = device;
    if (config.rope.type !== "dynamic") this.#fixed = ropeFrequencies(config, 0);
  }

  /** @param longest tokens of the longest sequence in the batch */
  at(positions: ArrayLike<number>, longest: number): Rotation {
    const { inverse, scaling } = this.#fixed ?? ropeFrequencies(this.#config, longest);
    const angles = ops.mul(
      ops.float32(positions, [positions.length, 1], this.#device),
      ops.float32(inverse, [1, inverse.length], this.#device),
    ); // [N, D/2]
    const scaled = (x: Tensor) => (scaling === 1 ? x : ops.mulScalar(x, scaling));
    return { cos: scaled(ops.cos(angles)), sin: scaled(ops.sin(angles)) };
  }
}
