/** Linear layers, frozen or trained, with a LoRA adapter on them or none. */
import { fused, ops, type Tensor } from "../torch/index.js";
import type { LinearDescription } from "./description.js";
import type { Precision } from "./precision.js";
import { QuantizedWeight } from "./quantizedWeight.js";

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

export class Linear<Weight extends Tensor | QuantizedWeight = Tensor | QuantizedWeight> {
  readonly description: LinearDescription;
  readonly weight: Weight; // [out, in]; [in, out] where it is transposed and not quantized
  readonly bias: Tensor | undefined; // [out]
  readonly precision: Precision;
  lora: LoraWeights | undefined;

  constructor(description: LinearDescription, weight: Weight, bias: Tensor | undefined, precision: Precision) {
    this.description = description;
    this.weight = weight;
    this.bias = bias;
    this.precision = precision;
  }

  get name(): string {
    return this.description.path;
  }

  get inFeatures(): number {
    return this.description.in;
  }

  get outFeatures(): number {
    return this.description.out;
  }

  /** A mask on the input of its adapter, drawn now, [N, in]; none without dropout or a source of it. */
  dropoutMask(source: DropoutSource | undefined): Tensor | undefined {
    if (!source || !this.lora || this.lora.dropout === 0) return undefined;
    return source.mask(this.lora.dropout, this.inFeatures);
  }

  /** The weight as products want it, [out, in], or the codes of a quantized one. */
  get matrix(): Tensor {
    if (this.weight instanceof QuantizedWeight) return this.weight.codes;
    return this.description.transposed ? ops.transpose(this.weight, 0, 1) : this.weight;
  }
}

/**
 * What layers multiply: rows in the compute dtype, rows that are normed first, or an activation, act(gate)·up, without up
 * act(gate). A residual is added to the output of the one layer; the sum has the residual's dtype.
 */
export type LinearInput =
  | { kind: "rows"; x: Tensor; residual?: fused.Residual } // [N, in]
  | { kind: "normed"; x: Tensor; norm: fused.Norm } // [N, in]
  | { kind: "activated"; activation: fused.Activation; gate: Tensor; up?: Tensor; residual?: fused.Residual }; // [N, in]

/** The outputs of layers that share an input, [N, out] each, in the compute dtype. */
export function forward(layers: readonly Linear[], input: LinearInput, dropout?: DropoutSource): Tensor[] {
  const group: fused.LinearGroup = {
    weights: layers.map(({ matrix }) => matrix),
    scales: layers.map(({ weight }) => (weight instanceof QuantizedWeight ? weight.scales : [])),
    biases: layers.map(({ bias }) => bias),
    a: layers.map(({ lora }) => lora?.a),
    b: layers.map(({ lora }) => lora?.b),
    scalings: layers.map(({ lora }) => lora?.scaling ?? 0),
    masks: layers.map((layer) => layer.dropoutMask(dropout)), // in the layers' order, as Python draws them
  };
  switch (input.kind) {
    case "rows":
      return fused.linears(input.x, group, input.residual);
    case "normed":
      return fused.normedLinears(input.x, input.norm, layers[0]!.precision.compute, group);
    case "activated":
      return fused.gatedLinears(input.activation, input.gate, input.up, group, input.residual);
  }
}
