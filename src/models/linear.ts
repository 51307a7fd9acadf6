/** A linear layer, frozen or trained, with a LoRA adapter on it or none. */
import { op } from "../torch/dispatch.js";
import { ops, scope, type Tensor } from "../torch/index.js";
import type { Precision } from "./precision.js";

/** Draws dropout masks for the tokens of the batch at hand. */
export interface DropoutSource {
  /** [N, width]: 0 with probability p, else 1/(1-p). */
  mask(p: number, width: number): Tensor;
}

/** Low-rank update of one layer: y += B·A·dropout(x)·scaling. */
export interface LoraWeights {
  a: Tensor; // [r, in], float32
  b: Tensor; // [out, r], float32
  rank: number;
  scaling: number;
  dropout: number;
}

export class Linear {
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly weight: Tensor; // [out, in]
  readonly bias: Tensor | undefined; // [out]
  lora: LoraWeights | undefined;
  readonly #precision: Precision;

  constructor(name: string, size: [number, number], weight: Tensor, bias: Tensor | undefined, precision: Precision) {
    this.name = name;
    [this.outFeatures, this.inFeatures] = size;
    this.weight = weight;
    this.bias = bias;
    this.#precision = precision;
  }

  /** x is [N, in] in the compute dtype, as is the result, [N, out]. */
  forward(x: Tensor, dropout?: DropoutSource): Tensor {
    return scope(() => {
      const y = op("slimtune::mixed_linear", x, this.weight, this.bias);
      if (!this.lora) return y;
      const { a, b, scaling, dropout: p } = this.lora;
      const dropped = dropout && p > 0 ? ops.mul(x, this.#cast(dropout.mask(p, this.inFeatures))) : x;
      const low = ops.linear(dropped, this.#cast(a)); // [N, r]
      ops.addmm_(y, low, ops.transpose(this.#cast(b), 0, 1), scaling); // in place: autograd does not need y
      return y;
    });
  }

  #cast(x: Tensor): Tensor {
    return this.#precision.compute === "float32" ? x : ops.to(x, this.#precision.compute);
  }
}
