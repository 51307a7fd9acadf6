/** The rotary embedding against its composition of PyTorch's ops, result and gradient. */
import { afterEach, describe, expect, it } from "vitest";
import {
  backward,
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
import { composedRope } from "./support/compositions.js";
import { gradcheck } from "./support/gradcheck.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

interface Case {
  shape: [tokens: number, heads: number, dim: number];
  /** How many elements of a head are turned. */
  turned?: number;
  interleaved?: boolean;
  norm?: "rms" | "layer";
  /** The heads are a part of a wider matrix. */
  strided?: boolean;
}

/** Result and all gradients of a rope, from the same random numbers. */
async function run(rope: typeof fused.rope, one: Case, dtype: DType): Promise<Float64Array[]> {
  manualSeed(3);
  const { shape, strided = false, interleaved = false, norm: kind } = one;
  const [tokens, heads, dim] = shape;
  const table = dtype === "float64" ? "float64" : "float32";
  const draw = (size: number[], type: DType) => {
    const x = ops.empty(size);
    ops.normal_(x, 0, 1);
    return ops.clone(ops.to(x, type));
  };
  const tensors = scope(() => {
    const [angles, wide, weight, bias, weights] = noGrad(() => [
      draw([tokens, (one.turned ?? dim) / 2], table),
      draw([tokens, strided ? 2 * heads * dim : heads * dim], dtype),
      draw([dim], table),
      draw([dim], table),
      draw(shape, "float64"),
    ]) as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const leaves = kind === "layer" ? [wide, weight, bias] : kind === "rms" ? [wide, weight] : [wide];
    for (const leaf of leaves) setRequiresGrad(leaf, true);
    const norm = kind && { kind, weight, bias: kind === "layer" ? bias : undefined, eps: 1e-5, offset: 0.5 };
    const rows = ops.reshape(strided ? ops.narrow(wide, 1, heads * dim, heads * dim) : wide, shape);
    const y = rope(rows, ops.cos(angles), ops.sin(angles), { interleaved, norm });
    backward(ops.sum(ops.mul(ops.to(y, "float64"), weights)));
    return [ops.to(ops.detach(y), dtype), ...leaves.map(gradOf)];
  });
  const values = await Promise.all(tensors.map(async (tensor) => Float64Array.from(await tensor.values(), Number)));
  for (const tensor of tensors) tensor.dispose();
  return values;
}

async function compare(one: Case, dtype: DType): Promise<number> {
  const [expected, actual] = [await run(composedRope, one, dtype), await run(fused.rope, one, dtype)];
  expect(actual.length).toBe(expected.length);
  const worst = (a: Float64Array, b: Float64Array) =>
    a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!) / (1 + Math.abs(x))), 0);
  return Math.max(...actual.map((values, i) => worst(values, expected[i]!)));
}

const shapes: Case["shape"][] = [
  [1, 1, 2],
  [5, 3, 6],
  [300, 9, 64],
];

describe.each([
  ["float64", 1e-13],
  ["float32", 4e-6],
  ["bfloat16", 0.04],
] as const)("equals its composition in %s", (dtype, tolerance) => {
  it.each([false, true])("whole heads, interleaved: %s", async (interleaved) => {
    for (const shape of shapes) {
      for (const strided of [false, true]) {
        expect(await compare({ shape, interleaved, strided }, dtype)).toBeLessThan(tolerance);
      }
    }
    expect(await compare({ shape: [0, 2, 4], interleaved }, dtype)).toBe(0);
  });

  it.each([false, true])("parts of heads, interleaved: %s", async (interleaved) => {
    for (const [dim, turned] of [
      [80, 32],
      [7, 4],
      [4, 0],
    ] as const) {
      for (const strided of [false, true]) {
        expect(await compare({ shape: [9, 3, dim], turned, interleaved, strided }, dtype)).toBeLessThan(tolerance);
      }
    }
  });

  it.each(["rms", "layer"] as const)("normed heads: %s", async (norm) => {
    for (const one of [{}, { strided: true }, { turned: 24, interleaved: true }] satisfies Partial<Case>[]) {
      expect(await compare({ shape: [40, 3, 64], norm, ...one }, dtype)).toBeLessThan(2 * tolerance);
    }
  });
});

describe("has the gradients of finite differences", () => {
  const tables = (x: Tensor) => [ops.cos(x), ops.sin(x)] as const;
  const angles = () =>
    ops.fromBytes(
      Float64Array.from({ length: 6 }, (_, i) => i * 0.7),
      "float64",
      [3, 2],
    );
  it.each([false, true])("interleaved: %s", (interleaved) =>
    gradcheck([[3, 2, 5]], ([x]) => fused.rope(x!, ...tables(angles()), { interleaved })),
  );
  it.each(["rms", "layer"] as const)("normed: %s", (kind) =>
    gradcheck([[3, 2, 5], [5], [5]], ([x, weight, bias]) =>
      fused.rope(x!, ...tables(angles()), { norm: { kind, weight: weight!, bias: bias!, eps: 1e-5, offset: 1 } }),
    ),
  );
});

it("refuses angles of more than a head", async () => {
  const y = scope(() => fused.rope(ops.zeros([2, 1, 4]), ops.zeros([2, 3]), ops.zeros([2, 3])));
  await expect(y.values()).rejects.toThrow("expected cos and sin [2, at most 2]");
  y.dispose();
});
