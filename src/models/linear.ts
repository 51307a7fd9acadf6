/** Linear layers, frozen or trained, with a LoRA adapter on them or none. */
import { type DType, fused, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import type { LinearDescription } from "./description.js";
import type { Precision } from "./precision.js";
import { QuantizedWeight } from "./quantizedWeight.js";

/** Draws dropout masks for the tokens of the batch at hand. */
export interface DropoutSource {
  /** [N, width]: 0 with probability p, else 1/(1-p). */
  mask(p: number, width: number): Tensor;
}

/** Low-rank update of one layer: y += scaling·(B·A·dropout(x) + bias). All in float32. */
export interface LoraWeights {
  a: Tensor; // [r, in]
  b: Tensor; // [out, r]
  rank: number;
  scaling: number;
  dropout: number;
  /** B's own. */
  bias?: Tensor; // [out]
  /** DoRA: the lengths of the rows of W + scaling·B·A. */
  magnitude?: Tensor; // [out]
  /** With DoRA: the squared lengths of the rows of the frozen weight. */
  squares?: Tensor; // [out]
  /** What the base is lessened by, scaling·B₀·A₀ (PiSSA, OLoRA). The weight itself stays as it is, and its file's. */
  initial?: { a: Tensor; b: Tensor };
}

export type LoraTensors = Omit<LoraWeights, "rank" | "scaling" | "dropout">;

export const tensorsOf = ({ a, b, bias, magnitude, squares, initial }: LoraTensors): Tensor[] =>
  [a, b, bias, magnitude, squares, initial?.a, initial?.b].filter((tensor) => tensor !== undefined);

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
  const masks = layers.map((layer) => layer.dropoutMask(dropout)); // in the layers' order, as Python draws them
  if (layers.some(({ lora }) => lora?.initial || lora?.magnitude)) return forwardApart(layers, input, masks);
  const group = groupOf(layers, masks);
  return products(group, input, layers[0]!.precision.compute);
}

function groupOf(layers: readonly Linear[], masks: (Tensor | undefined)[]): fused.LinearGroup {
  return {
    weights: layers.map(({ matrix }) => matrix),
    scales: layers.map(({ weight }) => (weight instanceof QuantizedWeight ? weight.scales : [])),
    biases: layers.map(biasWithLora),
    a: layers.map(({ lora }) => lora?.a),
    b: layers.map(({ lora }) => lora?.b),
    scalings: layers.map(({ lora }) => lora?.scaling ?? 0),
    masks: [...masks],
  };
}

function products(group: fused.LinearGroup, input: LinearInput, compute: DType): Tensor[] {
  switch (input.kind) {
    case "rows":
      return fused.linears(input.x, group, input.residual);
    case "normed":
      return fused.normedLinears(input.x, input.norm, compute, group);
    case "activated":
      return fused.gatedLinears(input.activation, input.gate, input.up, group, input.residual);
  }
}

/** The layer's bias and that of its adapter, scaled: [out]. */
function biasWithLora({ bias, lora }: Linear): Tensor | undefined {
  if (!lora?.bias) return bias;
  const scaled = ops.mulScalar(lora.bias, lora.scaling);
  return bias ? ops.add(ops.to(bias, "float32"), scaled) : scaled;
}

/**
 * The same where an adapter is more than an addition. What a base is lessened by is one more layer of the group, A₀, whose
 * few outputs are multiplied by B₀ here; DoRA scales the outputs, before bias and residual.
 */
function forwardApart(layers: readonly Linear[], input: LinearInput, masks: (Tensor | undefined)[]): Tensor[] {
  const { compute } = layers[0]!.precision;
  const residual = input.kind === "normed" ? undefined : input.residual;
  const rows = input.kind === "normed" ? input : { ...input, residual: undefined };
  const group = groupOf(layers, masks);
  const withoutAdapter = layers.map(({ lora }, i) => lora?.magnitude !== undefined && masks[i] !== undefined);
  for (const [i, { lora }] of layers.entries()) {
    if (lora?.magnitude) group.biases[i] = undefined;
    if (withoutAdapter[i]) group.a[i] = group.b[i] = group.masks[i] = undefined;
  }
  const outputs = withoutInitial(layers, group, rows, compute);
  const results = layers.map((layer, i) => {
    const { lora, bias } = layer;
    let y = outputs[i]!;
    if (lora?.magnitude) {
      const scale = ops.to(doraScale(layer, lora), compute); // [out]
      if (withoutAdapter[i]) {
        // As PEFT: the input of the scaled part is dropped out, the base's own is not.
        const dropped = ops.mul(rowsOf(rows, compute), ops.to(masks[i]!, compute));
        const [part] = withoutInitial([layer], plainGroup(layer), { kind: "rows", x: dropped }, compute);
        const low = ops.mulScalar(ops.linear(dropped, ops.to(lora.a, compute)), lora.scaling); // [N, r]
        const whole = ops.add(part!, ops.linear(low, ops.to(lora.b, compute)));
        y = ops.add(y, ops.add(ops.mul(whole, scale), ops.neg(part!)));
      } else {
        y = ops.mul(y, scale);
      }
      if (bias) y = ops.add(y, ops.to(bias, compute));
    }
    return y;
  });
  if (!residual) return results;
  const [y] = results;
  return [ops.add(residual.x, residual.scale === 1 ? y! : ops.mulScalar(y!, residual.scale))];
}

/** A layer's weight alone. */
const plainGroup = (layer: Linear): fused.LinearGroup => ({
  ...groupOf([layer], [undefined]),
  biases: [undefined],
  a: [undefined],
  b: [undefined],
});

/** What layers multiply, [N, in], in the compute dtype: a tensor that the fused ops do without. */
function rowsOf(input: LinearInput, compute: DType): Tensor {
  if (input.kind === "rows") return input.x;
  if (input.kind === "normed") return fused.norm(input.x, input.norm, compute);
  const { activation, gate, up } = input;
  const active = ACTIVATIONS[activation](gate);
  return up ? ops.mul(active, up) : active;
}

const ACTIVATIONS: Record<fused.Activation, (x: Tensor) => Tensor> = {
  silu: ops.silu,
  gelu: (x) => ops.gelu(x, "none"),
  gelu_tanh: (x) => ops.gelu(x, "tanh"),
  relu: ops.relu,
  relu2: (x) => ops.square(ops.relu(x)),
};

/** The group's outputs, less what the layers' bases are lessened by. */
function withoutInitial(
  layers: readonly Linear[],
  group: fused.LinearGroup,
  input: LinearInput,
  compute: DType,
): Tensor[] {
  const lessened = layers.flatMap(({ lora }, i) => (lora?.initial ? [{ i, lora, initial: lora.initial }] : []));
  const none = lessened.map(() => undefined);
  const more: fused.LinearGroup = {
    weights: [...group.weights, ...lessened.map(({ initial }) => initial.a)],
    scales: [...group.scales!, ...lessened.map(() => [])],
    biases: [...group.biases, ...none],
    a: [...group.a, ...none],
    b: [...group.b, ...none],
    scalings: [...group.scalings, ...lessened.map(() => 0)],
    masks: [...group.masks, ...none],
  };
  const outputs = products(more, input, compute);
  for (const [j, { i, lora, initial }] of lessened.entries()) {
    const low = ops.mulScalar(outputs[layers.length + j]!, -lora.scaling); // [N, r]
    outputs[i] = ops.add(outputs[i]!, ops.linear(low, ops.to(initial.b, compute)));
  }
  return outputs.slice(0, layers.length);
}

/** DoRA's factors, [out]: the trained lengths over the lengths that the rows have, which get no gradient. */
function doraScale(layer: Linear, lora: LoraWeights): Tensor {
  return ops.mul(
    lora.magnitude!,
    noGrad(() => scope(() => ops.rsqrt(squaredLengths(layer, lora)))),
  );
}

/**
 * ‖W + s·B·A‖² of each row, [out], without the sum: ‖W‖² + 2s·(W·Aᵀ)∘B + s²·(B·A·Aᵀ)∘B, summed over the rank. What the
 * base is lessened by counts as a part of B·A.
 */
export function squaredLengths(layer: Linear, { a, b, scaling, squares, initial }: LoraWeights): Tensor {
  const down = initial ? ops.cat([a, initial.a]) : a; // [r, in]
  const up = initial ? ops.cat([b, ops.neg(initial.b)], 1) : b; // [out, r]
  const crossed = ops.transpose(fused.linears(down, plainGroup(layer))[0]!, 0, 1); // [out, r]
  const gram = ops.matmul(up, ops.matmul(down, ops.transpose(down, 0, 1))); // [out, r]
  const mixed = ops.add(ops.mulScalar(crossed, 2 * scaling), ops.mulScalar(gram, scaling * scaling));
  return ops.add(squares!, ops.sumDim(ops.mul(mixed, up), 1));
}
