/** Linear layers, frozen or trained, with a LoRA adapter on them or none. */
import { fused, type Tensor } from "../torch/index.js";
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
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly weight: Weight; // [out, in]
  readonly bias: Tensor | undefined; // [out]
  readonly precision: Precision;
  lora: LoraWeights | undefined;

  constructor(name: string, size: [number, number], weight: Weight, bias: Tensor | undefined, precision: Precision) {
    this.name = name;
    [this.outFeatures, this.inFeatures] = size;
    this.weight = weight;
    this.bias = bias;
    this.precision = precision;
  }

  /** A mask on the input of its adapter, drawn now, [N, in]; none without dropout or a source of it. */
  dropoutMask(source: DropoutSource | undefined): Tensor | undefined {
    if (!source || !this.lora || this.lora.dropout === 0) return undefined;
    return source.mask(this.lora.dropout, this.inFeatures);
  }
}

/**
 * What layers multiply: rows in the compute dtype, rows that are normed first, or a gated activation, silu(gate)·up. A
 * residual, [N, out], is added to the output of the one layer; the sum has the residual's dtype.
 */
export type LinearInput =
  | { kind: "rows"; x: Tensor; residual?: Tensor } // [N, in]
  | { kind: "normed"; x: Tensor; norm: Tensor; eps: number } // [N, in], [in]
  | { kind: "gated"; gate: Tensor; up: Tensor; residual?: Tensor }; // [N, in] each

/** The outputs of layers that share an input, [N, out] each, in the compute dtype. */
export function forward(layers: readonly Linear[], input: LinearInput, dropout?: DropoutSource): Tensor[] {
  const group: fused.LinearGroup = {
    weights: layers.map(({ weight }) => (weight instanceof QuantizedWeight ? weight.codes : weight)),
    scales: layers.map(({ weight }) => (weight instanceof QuantizedWeight ? weight.scales : [])),
    biases: layers.map(({ bias }) => bias),
    a: layers.map(({ lora }) => lora?.a),
    b: layers.map(({ lora }) => lora?.b),
    scalings: layers.map(({ lora }) => lora?.scaling ?? 0),
    masks: layers.map((layer) => layer.dropoutMask(dropout)), // in the layers' order, as Python draws them
  };
  switch (input.kind) {
    case "rows":
      return fused.linears(input.x, group, residualOf(input));
    case "normed":
      return fused.normedLinears(
        input.x,
        { kind: "rms", weight: input.norm, eps: input.eps, offset: 0 },
        layers[0]!.precision.compute,
        group,
      );
    case "gated":
      return fused.gatedLinears("silu", input.gate, input.up, group, residualOf(input));
  }
}

const residualOf = ({ residual }: { residual?: Tensor }) => residual && { x: residual, scale: 1 };
