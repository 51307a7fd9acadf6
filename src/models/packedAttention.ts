/** Causal attention within each of several sequences that lie end to end. */
import { type Device, fused, type Tensor } from "../torch/index.js";
import type { Attention } from "./decoder.js";

export class PackedAttention implements Attention {
  readonly #lengths: readonly number[];
  /** A GPU's kernels look them up: made once for all layers, in the scope around. */
  readonly #offsets: Tensor | undefined;

  constructor(lengths: readonly number[], device: Device) {
    this.#lengths = lengths;
    this.#offsets = device === "cpu" ? undefined : fused.sequenceOffsets(lengths, device);
  }

  attend(_layer: number, q: Tensor, k: Tensor, v: Tensor, options: fused.AttentionOptions): Tensor {
    return fused.packedAttention(q, k, v, this.#lengths, this.#offsets, options);
  }
}
