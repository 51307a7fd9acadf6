/** Random numbers for a micro-batch as Python draws them. */
import { type Device, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import type { PaddedShape } from "./batch.js";
import type { DropoutSource } from "./linear.js";

/**
 * Draws over the micro-batch that Python would compute, padding and all, [B, T, width], and takes the rows of real tokens.
 * So the same seed drops the same activations and adds the same noise.
 */
export class PaddedRandom implements DropoutSource {
  readonly #rows: readonly number[];
  readonly #width: number; // T
  /** Rows of real tokens, [N]; made at once, so that it belongs to the scope around and not to a layer's. */
  readonly #real: Tensor | undefined;
  readonly #device: Device;

  constructor({ rows, width }: PaddedShape, device: Device) {
    this.#device = device;
    this.#rows = rows;
    this.#width = width;
    if (rows.some((length) => length !== width)) {
      const real = rows.flatMap((length, row) => Array.from({ length }, (_, i) => row * width + i));
      this.#real = ops.int64(real, [real.length], device);
    }
  }

  mask(p: number, width: number): Tensor {
    return this.#take(this.#mask(p, [this.#rows.length * this.#width, width]));
  }

  /**
   * Dropout on the weights of attention: each sequence's part of what is drawn for [B, heads, T, T].
   * @param lengths of the sequences; they lie end to end, each within a row
   * @returns [heads, length, length] each
   */
  weightMasks(p: number, heads: number, lengths: readonly number[]): Tensor[] {
    const mask = this.#mask(p, [this.#rows.length, heads, this.#width, this.#width]);
    let row = 0;
    let start = 0;
    return lengths.map((length) => {
      if (start + length > this.#rows[row]!) {
        row++;
        start = 0;
      }
      const block = ops.narrow(ops.narrow(ops.select(mask, 0, row), 1, start, length), 2, start, length);
      start += length;
      return block;
    });
  }

  /** The same source for some of the tokens: `rows` of the N, [L], int64. */
  at(rows: Tensor): DropoutSource {
    return { mask: (p, width) => scope(() => ops.indexSelect(this.mask(p, width), 0, rows)) };
  }

  /**
   * NEFTune's noise on the embeddings (Jain et al. 2023, arXiv:2310.05914): uniform within ± alpha / √(T · hidden).
   * @returns [N, hidden]
   */
  noise(alpha: number, hidden: number): Tensor {
    const bound = Math.fround(alpha / Math.fround(Math.sqrt(this.#width * hidden))); // float32, as Python has it
    return noGrad(() => {
      const noise = ops.empty([this.#rows.length * this.#width, hidden], "float32", this.#device);
      ops.uniform_(noise, -bound, bound);
      return this.#take(noise);
    });
  }

  /** 0 with probability p, else 1/(1-p). */
  #mask(p: number, shape: number[]): Tensor {
    const mask = ops.empty(shape, "float32", this.#device);
    ops.bernoulli_(mask, 1 - p);
    return ops.mulScalar(mask, 1 / (1 - p));
  }

  #take(drawn: Tensor): Tensor {
    return this.#real ? ops.indexSelect(drawn, 0, this.#real) : drawn;
  }
}
