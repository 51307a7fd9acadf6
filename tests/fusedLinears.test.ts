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
  residual?: boolean;
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
  residual?: Tensor;
  group: fused.LinearGroup;
}

function inputsOf(one: Case): Inputs {
  const { compute, stored, trained = false } = one;
  const wide = compute === "bfloat16" || compute === "float16" ? "float32" : compute;
  const sizes = SIZES.slice(0, one.layers);
  const row = () => draw([ROWS, INPUT], one.stage === "normed" ? wide : compute, true);
  const optional = (wanted: boolean | undefined, make: (size: number) => Tensor) =>
    sizes.map((size, i) => (wanted && i !== 1 ? make(size) : undefined)); // the second layer goes without
  return {
    stage:
      one.stage === "plain" ? [row()] : one.stage === "gated" ? [row(), row()] : [row(), draw([INPUT], wide, trained)],
    residual: one.residual ? draw([ROWS, sizes[0]!], wide, true) : undefined,
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

function fusedOutputs({ stage, layers: _, compute }: Case, { stage: x, residual, group }: Inputs): Tensor[] {
  if (stage === "plain") return fused.linears(x[0]!, group, residual);
  if (stage === "gated") return fused.gatedLinears(x[0]!, x[1]!, group, residual);
  return fused.normedLinears(x[0]!, x[1]!, EPS, compute, group);
}

function composedOutputs({ stage, compute }: Case, { stage: x, residual, group }: Inputs): Tensor[] {
  const cast = (tensor: Tensor) => ops.to(tensor, compute);
  let input = x[0]!;
  if (stage === "gated") input = ops.mul(ops.silu(x[0]!), x[1]!);
  if (stage === "normed") {
    const inverse = ops.rsqrt(ops.addScalar(ops.mean(ops.square(input), -1, true), EPS));
    input = cast(ops.mul(x[1]!, ops.mul(input, inverse)));
  }
  return group.weights.map((weight, i) => {
    const [bias, a, b, mask] = [group.biases[i], group.a[i], group.b[i], group.masks[i]];
    let y = ops.linear(input, cast(weight), bias && cast(bias));
    if (a && b) {
      const dropped = mask ? ops.mul(input, cast(mask)) : input;
      y = ops.add(y, ops.mulScalar(ops.linear(ops.linear(dropped, cast(a)), cast(b)), group.scalings[i]!));
    }
    return residual ? ops.add(residual, y) : y;
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
      cases.push({ stage, layers: 1, compute: "float64", stored: "float64", residual: true, ...options });
    }
  }
  for (const stored of ["float32", "bfloat16", "float16"] as const) {
    cases.push({ stage, layers: 1, compute: "float32", stored, lora: true, bias: true });
  }
  for (const low of ["bfloat16", "float16"] as const) {
    cases.push({ stage, layers: 1, compute: low, stored: low, lora: true, residual: stage !== "normed" });
  }
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
      const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };
      leaves.push(weight);
      scope(() => backward(ops.sum(fused.linears(x, { weights: [weight], ...none })[0]!)));
      const gradient = gradOf(x);
      leaves.push(gradient);
      expect(new Set(Array.from(await gradient.values(), Number))).toEqual(new Set([0.75]));
    },
  );

  it("give no gradient to what is frozen, and record nothing where nothing is trained", async () => {
    const weight = draw([4, INPUT], "float32", false);
    const x = draw([ROWS, INPUT], "float32", false);
    const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };
    const [y] = fused.linears(x, { weights: [weight], ...none });
    leaves.push(y!);
    expect(y!.info.requiresGrad).toBe(false);
  });

  it("name a wrong shape", async () => {
    const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };
    const outputs = fused.linears(draw([2, 3], "float32", false), {
      weights: [draw([4, 5], "float32", false)],
      ...none,
    });
    leaves.push(...outputs);
    await expect(flush()).rejects.toThrow("expected a weight [out, 3], got [4, 5]");
  });
});
