import { afterEach, describe, expect, it } from "vitest";
import { gradcheck, size, wave } from "../../tests/support/gradcheck.js";
import { expectNear } from "../../tests/support/near.js";
import {
  backward,
  type DType,
  flush,
  fused,
  gradOf,
  liveTensors,
  noGrad,
  ops,
  scope,
  setRequiresGrad,
  type Tensor,
} from "./index.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

type Loss = typeof fused.linearCrossEntropy;

/** The same of whole logits, [L, V]. */
const composition: Loss = (inputs, weights, targets, smoothing, scale, softcap = 0) => {
  const sums = inputs.map((x, i) => ops.linear(x, weights[i]!)).reduce((sum, next) => ops.add(sum, next));
  const logits = softcap > 0 ? ops.mulScalar(ops.tanh(ops.mulScalar(sums, 1 / softcap)), softcap) : sums;
  return ops.mulScalar(ops.sum(ops.crossEntropyEach(logits, targets, smoothing)), scale);
};

interface Case {
  rows: number;
  classes: number;
  widths: number[];
  /** Which weights are trained. */
  trained: boolean[];
  smoothing?: number;
  /** Of the inputs' values: large ones make sure predictions. */
  spread?: number;
  softcap?: number;
}

interface DTypes {
  input: DType;
  weight: DType;
}

const SCALE = 0.01;
const INCOMING = 3;
const targetsOf = ({ rows, classes }: Case) => Int32Array.from({ length: rows }, (_, i) => (i * 7919 + 3) % classes);
const numbers = async (tensor: Tensor) => Array.from(await tensor.values(), Number);

/** The loss and all gradients, by name. */
async function run(loss: Loss, one: Case, { input, weight }: DTypes): Promise<Record<string, number[]>> {
  const { rows, classes, widths, trained, smoothing = 0, spread = 1 } = one;
  const results = scope(() => {
    const tensor = (shape: number[], phase: number, factor: number, dtype: DType) => {
      const values = wave(size(shape), phase).map((value) => value * factor);
      return ops.to(ops.to(ops.fromBytes(values, "float64", shape), "bfloat16"), dtype);
    };
    const inputs = widths.map((width, i) => tensor([rows, width], i, spread, input));
    const weights = widths.map((width, i) => tensor([classes, width], i + 5, 1, weight));
    const leaves: [string, Tensor][] = [
      ...inputs.map((x, i): [string, Tensor] => [`gradient of input ${i}`, x]),
      ...weights.map((x, i): [string, Tensor] => [`gradient of weight ${i}`, x]).filter((_, i) => trained[i]),
    ];
    for (const [, leaf] of leaves) setRequiresGrad(leaf, true);
    const y = loss(inputs, weights, ops.int64(targetsOf(one)), smoothing, SCALE, one.softcap);
    backward(ops.mulScalar(y, INCOMING));
    return Object.fromEntries([["loss", ops.detach(y)], ...leaves.map(([name, leaf]) => [name, gradOf(leaf)])]);
  }) as Record<string, Tensor>;
  const values = await Promise.all(Object.entries(results).map(async ([name, x]) => [name, await numbers(x)]));
  for (const tensor of Object.values(results)) tensor.dispose();
  return Object.fromEntries(values);
}

function expectAllNear(actual: Record<string, number[]>, expected: Record<string, number[]>, tolerance: number): void {
  expect(Object.keys(actual)).toEqual(Object.keys(expected));
  for (const [name, values] of Object.entries(actual)) expectNear(name, values, expected[name]!, tolerance);
}

const cases: [string, Case][] = [
  ["one row, two classes", { rows: 1, classes: 2, widths: [3], trained: [true] }],
  ["a frozen weight", { rows: 70, classes: 1003, widths: [48], trained: [false] }],
  ["several blocks of classes", { rows: 40, classes: 40_000, widths: [64], trained: [false] }],
  ["several chunks of rows", { rows: 1100, classes: 130, widths: [16], trained: [false] }],
  ["a trained weight, in blocks and chunks", { rows: 450, classes: 40_000, widths: [64], trained: [true] }],
  ["two products, one of them trained", { rows: 90, classes: 777, widths: [32, 4], trained: [false, true] }],
  ["label smoothing", { rows: 60, classes: 500, widths: [32], trained: [true], smoothing: 0.1 }],
  ["label smoothing of two products", { rows: 60, classes: 50, widths: [32, 2], trained: [false, true], smoothing: 1 }],
  ["sure predictions", { rows: 60, classes: 300, widths: [32], trained: [true], spread: 30 }],
  ["a soft cap", { rows: 70, classes: 1003, widths: [48], trained: [false], softcap: 3 }],
  ["a soft cap, in blocks and chunks", { rows: 450, classes: 40_000, widths: [64], trained: [true], softcap: 5 }],
  ["a soft cap far from the logits", { rows: 60, classes: 300, widths: [32], trained: [true], softcap: 1000 }],
  [
    "a soft cap that holds most logits",
    { rows: 60, classes: 300, widths: [32], trained: [true], spread: 3, softcap: 4 },
  ],
  [
    "a soft cap with label smoothing of two products",
    { rows: 60, classes: 500, widths: [32, 2], trained: [true, true], smoothing: 0.3, softcap: 2 },
  ],
  [
    "a soft cap with label smoothing, in blocks and chunks",
    { rows: 450, classes: 40_000, widths: [64], trained: [true], smoothing: 0.1, softcap: 4 },
  ],
];

describe.each(cases)("%s", (_, one) => {
  const float64 = { input: "float64", weight: "float64" } as const;
  const tolerance = 5e-6 * Math.max(1, (one.spread ?? 1) / 10); // logits are rounded by a share of their size

  it("is the composition, float32", async () => {
    const actual = await run(fused.linearCrossEntropy, one, { input: "float32", weight: "float32" });
    expectAllNear(actual, await run(composition, one, float64), tolerance);
  });

  it("widens a weight stored in bfloat16", async () => {
    const stored = { ...one, trained: one.trained.map(() => false) };
    const actual = await run(fused.linearCrossEntropy, stored, { input: "float32", weight: "bfloat16" });
    expectAllNear(actual, await run(composition, stored, float64), tolerance);
  });

  it("stays within bfloat16's rounding of the float64 result", async () => {
    const actual = await run(fused.linearCrossEntropy, one, { input: "bfloat16", weight: "float32" });
    // Logits are rounded by 2⁻⁹ of their size, of which the gradients are exponentials.
    expectAllNear(actual, await run(composition, one, float64), (one.spread ?? 1) > 1 ? 0.3 : 0.05);
  });
});

it("takes gradients that float32's probabilities cannot tell from zero", async () => {
  const gradient = scope(() => {
    const x = ops.float32([20], [1, 1]);
    setRequiresGrad(x, true);
    backward(fused.linearCrossEntropy([x], [ops.float32([1, 0], [2, 1])], ops.int64([0]), 0, 1));
    return gradOf(x);
  });
  expect((await gradient.item()) / -Math.exp(-20)).toBeCloseTo(1, 5); // minus the other class's probability
  gradient.dispose();
});

it.each([
  [0, 0],
  [0.2, 0],
  [0, 0.7],
  [0.2, 0.7],
])("has the gradients of finite differences, smoothing %d, soft cap %d", async (smoothing, softcap) => {
  const targets = [0, 6, 2, 2];
  await gradcheck(
    [
      [4, 3],
      [4, 2],
      [7, 3],
      [7, 2],
    ],
    ([x, low, weight, b]) =>
      fused.linearCrossEntropy([x!, low!], [weight!, b!], ops.int64(targets), smoothing, SCALE, softcap),
  );
});

it("gives the same loss without gradients", async () => {
  const values = async (loss: () => Tensor) => {
    const y = scope(loss);
    const value = await y.item();
    y.dispose();
    return value;
  };
  const make = () => {
    const x = ops.fromBytes(Float32Array.from(wave(20 * 8, 1)), "float32", [20, 8]);
    setRequiresGrad(x, true);
    const weight = ops.fromBytes(Float32Array.from(wave(50 * 8, 2)), "float32", [50, 8]);
    const targets = ops.int64(Int32Array.from({ length: 20 }, (_, i) => i));
    return fused.linearCrossEntropy([x], [weight], targets, 0.1, 1);
  };
  expect(await values(() => noGrad(make))).toBe(await values(() => ops.detach(make())));
});

it.each<[string, number[], number, RegExp]>([
  ["a target beyond the classes", [0, 5], 0, /not one of the 5 classes/],
  ["a target below them", [-100, 1], 0, /not one of the 5 classes/],
  ["another number of targets", [1], 0, /expected inputs \[L, K\]/],
  ["a smoothing above 1", [1, 2], 1.5, /smoothing, 1.5, must be between 0 and 1/],
])("refuses %s", async (_, targets, smoothing, message) => {
  const y = scope(() =>
    fused.linearCrossEntropy([ops.zeros([2, 3])], [ops.zeros([5, 3])], ops.int64(targets), smoothing, 1),
  );
  await expect(y.values()).rejects.toThrow(message);
  y.dispose();
});
