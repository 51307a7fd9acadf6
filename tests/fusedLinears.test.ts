/** Fused linear layers against their composition of PyTorch's ops: results and every gradient, in each dtype. */
import { afterEach, describe, expect, it } from "vitest";
import {
  backward,
  clearGrad,
  type DType,
  flush,
  fused,
  gradOf,
  liveTensors,
  manualSeed,
  noGrad,
  ops,
  scope,
  setRequiresGrad,
  type Tensor,
} from "../src/torch/index.js";
import { ACTIVATIONS, composedNorm } from "./support/compositions.js";
import { gradcheck } from "./support/gradcheck.js";

const ROWS = 7;
const INPUT = 12;
const SIZES = [10, 6, 9];
const EPS = 1e-5;

interface Case {
  stage: "plain" | "normed" | "gated";
  layers: number;
  compute: DType;
  /** How the weights are stored. */
  stored: DType;
  /** What its sum takes of the output. */
  residual?: number;
  norm?: "rms" | "layer";
  offset?: number;
  activation?: fused.Activation;
  /** Without a gate: the activation alone. */
  plainMlp?: boolean;
  /** The stage's input is a part of a wider matrix. */
  strided?: boolean;
  bias?: boolean;
  lora?: boolean;
  dropout?: boolean;
  trained?: boolean;
}

const leaves: Tensor[] = [];

function draw(shape: number[], dtype: DType, trained: boolean): Tensor {
  const tensor = noGrad(() =>
    scope(() => {
      const values = ops.empty(shape);
      ops.normal_(values, 0, 1);
      return ops.clone(ops.to(values, dtype));
    }),
  );
  if (trained) setRequiresGrad(tensor, true);
  leaves.push(tensor);
  return tensor;
}

interface Inputs {
  stage: Tensor[];
  normBias?: Tensor | undefined;
  residual?: Tensor | undefined;
  group: fused.LinearGroup;
}

function inputsOf(one: Case): Inputs {
  const { compute, stored, trained = false } = one;
  const wide = compute === "bfloat16" || compute === "float16" ? "float32" : compute;
  const sizes = SIZES.slice(0, one.layers);
  const row = () => draw([ROWS, one.strided ? 2 * INPUT + 1 : INPUT], one.stage === "normed" ? wide : compute, true);
  const optional = (wanted: boolean | undefined, make: (size: number) => Tensor) =>
    sizes.map((size, i) => (wanted && i !== 1 ? make(size) : undefined)); // the second layer goes without
  const gates = () => (one.plainMlp ? [row()] : [row(), row()]);
  return {
    stage: one.stage === "plain" ? [row()] : one.stage === "gated" ? gates() : [row(), draw([INPUT], wide, trained)],
    normBias: one.stage === "normed" && one.norm === "layer" ? draw([INPUT], stored, trained) : undefined,
    residual: one.residual === undefined ? undefined : draw([ROWS, sizes[0]!], wide, true),
    group: {
      weights: sizes.map((size) => draw([size, INPUT], stored, trained)),
      biases: optional(one.bias, (size) => draw([size], stored, trained)),
      a: optional(one.lora, () => draw([3, INPUT], wide, true)),
      b: optional(one.lora, (size) => draw([size, 3], wide, true)),
      scalings: sizes.map((_, i) => 0.5 + i),
      masks: optional(one.dropout, () => draw([ROWS, INPUT], wide, false)),
    },
  };
}

const rows = ({ strided }: Case, x: Tensor) => (strided ? ops.narrow(x, 1, 3, INPUT) : x);
const normOf = ({ norm = "rms", offset = 0 }: Case, { stage, normBias }: Inputs): fused.Norm => {
  return { kind: norm, weight: stage[1]!, bias: normBias, eps: EPS, offset };
};

function fusedOutputs(one: Case, inputs: Inputs): Tensor[] {
  const { stage: kind, compute, activation = "silu" } = one;
  const { stage, group } = inputs;
  const residual = inputs.residual && { x: inputs.residual, scale: one.residual! };
  const x = rows(one, stage[0]!);
  if (kind === "plain") return fused.linears(x, group, residual);
  if (kind === "normed") return fused.normedLinears(x, normOf(one, inputs), compute, group);
  return fused.gatedLinears(activation, x, stage[1] && rows(one, stage[1]), group, residual);
}

function composedOutputs(one: Case, inputs: Inputs): Tensor[] {
  const { stage: kind, compute, activation = "silu" } = one;
  const { stage, residual, group } = inputs;
  const cast = (tensor: Tensor) => ops.to(tensor, compute);
  let input = rows(one, stage[0]!);
  if (kind === "gated") input = ACTIVATIONS[activation](input);
  if (kind === "gated" && stage[1]) input = ops.mul(input, rows(one, stage[1]));
  if (kind === "normed") input = cast(composedNorm(input, normOf(one, inputs)));
  return group.weights.map((weight, i) => {
    const [bias, a, b, mask] = [group.biases[i], group.a[i], group.b[i], group.masks[i]];
    let y = ops.linear(input, cast(weight), bias && cast(bias));
    if (a && b) {
      const dropped = mask ? ops.mul(input, cast(mask)) : input;
      y = ops.add(y, ops.mulScalar(ops.linear(ops.linear(dropped, cast(a)), cast(b)), group.scalings[i]!));
    }
    return residual ? ops.add(residual, ops.mulScalar(y, one.residual!)) : y;
  });
}

/** Outputs and the gradients of all leaves that are trained, after a backward pass from a weighted sum. */
async function run(
  one: Case,
  inputs: Inputs,
  compute: (one: Case, inputs: Inputs) => Tensor[],
): Promise<Float64Array[]> {
  const outputs = scope(() => {
    const results = compute(one, inputs);
    const loss = results.map((y, i) => ops.sum(ops.square(ops.mulScalar(ops.to(y, "float64"), 0.1 * (i + 1)))));
    backward(ops.sum(ops.stack(loss)));
    return results.map((y) => ops.detach(y));
  });
  const trained = [...leaves].filter((_, i) => trainedLeaves[i]);
  const tensors = [...outputs, ...trained.map((leaf) => scope(() => gradOf(leaf)))];
  const values = await Promise.all(tensors.map(async (tensor) => Float64Array.from(await tensor.values(), Number)));
  for (const tensor of tensors) tensor.dispose();
  for (const leaf of trained) clearGrad(leaf);
  return values;
}

let trainedLeaves: boolean[] = [];

afterEach(async () => {
  for (const leaf of leaves.splice(0)) leaf.dispose();
  await flush();
  expect(liveTensors()).toBe(0);
});

/** Largest difference in units of the largest value. */
function difference(a: Float64Array, b: Float64Array): number {
  const largest = Math.max(...b.map(Math.abs), 1e-30);
  return Math.max(0, ...a.map((x, i) => Math.abs(x - b[i]!))) / largest;
}

const cases: Case[] = [];
for (const stage of ["plain", "normed", "gated"] as const) {
  for (const options of [
    {},
    { lora: true },
    { lora: true, dropout: true },
    { lora: true, bias: true, trained: true },
    { bias: true, trained: true },
  ]) {
    const layers = stage === "gated" ? 1 : 3;
    cases.push({ stage, layers, compute: "float64", stored: "float64", ...options });
    if (layers === 1 || stage === "plain") {
      for (const residual of [1, 0.3]) {
        cases.push({ stage, layers: 1, compute: "float64", stored: "float64", residual, ...options });
      }
    }
  }
  for (const stored of ["float32", "bfloat16", "float16"] as const) {
    cases.push({ stage, layers: 1, compute: "float32", stored, lora: true, bias: true });
  }
  for (const low of ["bfloat16", "float16"] as const) {
    cases.push({
      stage,
      layers: 1,
      compute: low,
      stored: low,
      lora: true,
      residual: stage === "normed" ? undefined : 1,
    });
  }
}
for (const [compute, stored] of [
  ["float64", "float64"],
  ["float32", "float32"],
  ["float32", "bfloat16"],
  ["bfloat16", "bfloat16"],
] as const) {
  const trained = stored !== "bfloat16";
  for (const norm of ["rms", "layer"] as const) {
    cases.push({ stage: "normed", layers: 2, compute, stored, norm, offset: 1, trained, strided: true });
  }
  for (const activation of Object.keys(ACTIVATIONS) as fused.Activation[]) {
    const one = { stage: "gated", layers: 1, compute, stored, activation, trained } as const;
    cases.push({ ...one, strided: true, lora: true }, { ...one, plainMlp: true, bias: true, residual: 0.5 });
  }
  cases.push({ stage: "plain", layers: 1, compute, stored, residual: 2.5, bias: true, lora: true });
}

const tolerance: Partial<Record<DType, number>> = { float64: 1e-13, float32: 2e-6, bfloat16: 2e-2, float16: 2.5e-3 };

describe("fused linear layers equal their composition", () => {
  it.each(cases.map((one) => [JSON.stringify(one), one] as const))("%s", async (_, one) => {
    manualSeed(7);
    const inputs = inputsOf(one);
    trainedLeaves = leaves.map((leaf) => leaf.info.requiresGrad);
    const expected = await run(one, inputs, composedOutputs);
    const actual = await run(one, inputs, fusedOutputs);
    expect(actual.length).toBe(expected.length);
    for (const [i, values] of actual.entries()) {
      expect(difference(values, expected[i]!)).toBeLessThan(tolerance[one.compute]!);
    }
  });
});

const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };

describe("fused linear layers have the gradients of finite differences", () => {
  it.each(["rms", "layer"] as const)("after a norm: %s", (kind) =>
    gradcheck([[4, 6], [6], [6], [5, 6]], ([x, weight, bias, w]) => {
      return fused.normedLinears(x!, { kind, weight: weight!, bias: bias!, eps: 1e-5, offset: 1 }, "float64", {
        weights: [w!],
        ...none,
      })[0]!;
    }),
  );

  // Moved by 0.1, no element of the waves is so near to 0 that a step would cross the corner of relu.
  it.each(Object.keys(ACTIVATIONS) as fused.Activation[])("after a gate: %s", async (activation) => {
    const shapes = [
      [4, 6],
      [4, 6],
      [5, 6],
      [4, 5],
    ];
    await gradcheck(shapes, ([gate, up, w, x]) => {
      return fused.gatedLinears(
        activation,
        ops.addScalar(gate!, 0.1),
        up!,
        { weights: [w!], ...none },
        { x: x!, scale: 0.4 },
      )[0]!;
    });
    await gradcheck(
      [
        [4, 6],
        [5, 6],
      ],
      ([gate, w]) => {
        return fused.gatedLinears(activation, ops.addScalar(gate!, 0.1), undefined, { weights: [w!], ...none })[0]!;
      },
    );
  });
});

/** Activations in float32 by themselves: through a unit matrix, which adds zeros. */
describe("an activation in float32 has float32's digits", () => {
  it.each(Object.keys(ACTIVATIONS) as fused.Activation[])("%s", async (activation) => {
    const x = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 500); // -4 to 4
    const values = (dtype: DType) =>
      scope(() => {
        const gate = ops.to(ops.float32(x, [x.length, 1]), dtype);
        setRequiresGrad(gate, true);
        const weights = [ops.to(ops.float32([1], [1, 1]), dtype)];
        const [y] = fused.gatedLinears(activation, gate, undefined, { weights, ...none });
        backward(ops.sum(y!));
        return [ops.detach(y!), gradOf(gate)];
      });
    const [single, double] = [values("float32"), values("float64")];
    leaves.push(...single, ...double);
    const [y, slope] = (await Promise.all(single.map((tensor) => tensor.values()))) as Float32Array[];
    const [wanted, wantedSlope] = (await Promise.all(double.map((tensor) => tensor.values()))) as Float64Array[];
    for (const i of x.keys()) {
      expect(Math.abs(y![i]! - wanted![i]!), `${x[i]}`).toBeLessThanOrEqual(1.5e-6 * Math.abs(wanted![i]!));
      expect(Math.abs(slope![i]! - wantedSlope![i]!), `slope at ${x[i]}`).toBeLessThan(1e-6);
    }
  });
});

it.each(Object.keys(ACTIVATIONS) as fused.Activation[])(
  "NaN comes through %s, alone and with a gate",
  async (activation) => {
    const outputs = scope(() => {
      const x = ops.float32([Number.NaN, 1], [2, 1]);
      const group = { weights: [ops.float32([1], [1, 1])], ...none };
      return [undefined, ops.float32([1, 1], [2, 1])].map((up) => fused.gatedLinears(activation, x, up, group)[0]!);
    });
    leaves.push(...outputs);
    for (const y of outputs) {
      const [broken, whole] = await y.values();
      expect(broken).toBeNaN();
      expect(whole).not.toBeNaN();
    }
  },
);

/** Every spec with every other: what a list of cases forgets. */
it("random specs equal their composition", async () => {
  manualSeed(11);
  let state = 5;
  const pick = <T>(...values: T[]): T => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return values[Math.floor((state / 2 ** 32) * values.length)]!;
  };
  for (let trial = 0; trial < 150; trial++) {
    const stage = pick("plain", "normed", "gated");
    const layers = pick(1, 2, 3);
    const lora = pick(false, true);
    const one: Case = {
      stage,
      layers,
      compute: "float64",
      stored: "float64",
      residual: stage !== "normed" && layers === 1 ? pick(undefined, 1, -0.7, 0) : undefined,
      norm: pick("rms", "layer"),
      offset: pick(0, 1),
      activation: pick(...(Object.keys(ACTIVATIONS) as fused.Activation[])),
      plainMlp: pick(false, true),
      strided: pick(false, true),
      bias: pick(false, true),
      lora,
      dropout: lora && pick(false, true),
      trained: pick(false, true),
    };
    const inputs = inputsOf(one);
    trainedLeaves = leaves.map((leaf) => leaf.info.requiresGrad);
    const expected = await run(one, inputs, composedOutputs);
    const actual = await run(one, inputs, fusedOutputs);
    for (const [i, values] of actual.entries()) {
      expect(difference(values, expected[i]!), `${JSON.stringify(one)}: ${i}`).toBeLessThan(1e-12);
    }
    for (const leaf of leaves.splice(0)) leaf.dispose();
  }
});

describe("fused linear layers", () => {
  it("add to a gradient that is there already", async () => {
    const one: Case = { stage: "normed", layers: 3, compute: "float64", stored: "float64", lora: true, trained: true };
    manualSeed(7);
    const inputs = inputsOf(one);
    const [weight] = inputs.group.weights;
    const pass = () => scope(() => backward(ops.sum(ops.stack(fusedOutputs(one, inputs).map((y) => ops.sum(y))))));
    const gradient = async () => {
      const tensor = scope(() => ops.clone(gradOf(weight!)));
      const values = Float64Array.from(await tensor.values(), Number);
      tensor.dispose();
      return values;
    };
    pass();
    const once = await gradient();
    pass();
    const twice = await gradient();
    expect(
      difference(
        twice,
        once.map((x) => 2 * x),
      ),
    ).toBeLessThan(1e-14);
  });

  // The weight is larger than what is converted at a time: four parts, whose sums for each input are 4000, 1/2, -4000
  // and 1/4. The next number to 4000 is 4002 in float16, 4016 in bfloat16.
  it.each(["bfloat16", "float16"] as const)(
    "add up the gradient of an input in more than the 16 bits of %s",
    async (dtype) => {
      const [parts, rows, width] = [[4000 / 2048, 1 / 4096, -4000 / 2048, 1 / 8192], 2048, 512];
      const weight = ops.float32(new Float32Array(4 * rows * width), [4 * rows, width]);
      noGrad(() =>
        scope(() => {
          for (const [i, value] of parts.entries()) {
            const part = ops.narrow(weight, 0, i * rows, rows);
            ops.copy_(part, ops.float32([value], [1, 1]));
          }
        }),
      );
      const x = draw([2, width], dtype, true);
      leaves.push(weight);
      scope(() => backward(ops.sum(fused.linears(x, { weights: [weight], ...none })[0]!)));
      const gradient = gradOf(x);
      leaves.push(gradient);
      expect(new Set(Array.from(await gradient.values(), Number))).toEqual(new Set([0.75]));
    },
  );

  it.each(["float32", "bfloat16"] as const)("take a weight that is stored transposed in %s", async (stored) => {
    manualSeed(4);
    const [input, out] = [1500, 900]; // more than one block of it is converted
    const x = draw([ROWS, input], "float32", true);
    const transposed = draw([input, out], stored, false);
    const group = (weight: Tensor): fused.LinearGroup => {
      const [biases, a, b, masks] = [[undefined], [undefined], [undefined], [undefined]];
      return { weights: [weight], biases, a, b, scalings: [0], masks };
    };
    const results = [];
    const turned = () => ops.transpose(transposed, 0, 1);
    for (const weight of [turned(), scope(() => ops.cat([turned()]))]) {
      leaves.push(weight);
      clearGrad(x);
      const y = fused.linears(x, group(weight))[0]!;
      leaves.push(y);
      scope(() => backward(ops.sum(ops.square(y))));
      const gradient = gradOf(x);
      leaves.push(gradient);
      results.push([await y.values(), await gradient.values()]);
    }
    for (const part of [0, 1]) {
      const [one, other] = results.map((each) => Array.from(each[part]!, Number));
      const largest = Math.max(...other!.map(Math.abs));
      expect(Math.max(...one!.map((value, i) => Math.abs(value - other![i]!))) / largest).toBeLessThan(2e-6);
    }
  });

  it("give no gradient to what is frozen, and record nothing where nothing is trained", async () => {
    const weight = draw([4, INPUT], "float32", false);
    const x = draw([ROWS, INPUT], "float32", false);
    const [y] = fused.linears(x, { weights: [weight], ...none });
    leaves.push(y!);
    expect(y!.info.requiresGrad).toBe(false);
  });

  it("name a wrong shape", async () => {
    const outputs = fused.linears(draw([2, 3], "float32", false), {
      weights: [draw([4, 5], "float32", false)],
      ...none,
    });
    leaves.push(...outputs);
    await expect(flush()).rejects.toThrow("expected a weight [out, 3], got [4, 5]");
  });

  it.each<[string, (x: Tensor) => Tensor[], string]>([
    [
      "an activation that is none",
      (x) => fused.gatedLinears("swish" as fused.Activation, x, undefined, { weights: [x], ...none }),
      "an activation is silu, gelu, gelu_tanh, relu2 or relu, not 'swish'",
    ],
    [
      "a norm that is none",
      (x) => {
        const norm = { kind: "batch" as "rms", weight: ops.zeros([3]), eps: 0, offset: 0 };
        return fused.normedLinears(x, norm, "float32", { weights: [x], ...none });
      },
      "a norm is rms or layer, not 'batch'",
    ],
    [
      "a norm's bias of another size",
      (x) => {
        const norm = { kind: "layer" as const, weight: ops.zeros([3]), bias: ops.zeros([2]), eps: 0, offset: 0 };
        return fused.normedLinears(x, norm, "float32", { weights: [x], ...none });
      },
      "weight and bias [3] of a floating dtype, got [2]",
    ],
  ])("refuse %s", async (_, run, message) => {
    leaves.push(...scope(() => run(ops.zeros([2, 3]))));
    await expect(flush()).rejects.toThrow(message);
  });
});
