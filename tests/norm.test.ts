/** The norm by itself against its composition of PyTorch's ops: results and every gradient. */
import { afterEach, describe, expect, it } from "vitest";
import {
  backward,
  type DType,
  flush,
  fused,
  gradOf,
  liveTensors,
  ops,
  scope,
  setRequiresGrad,
  type Tensor,
} from "../src/torch/index.js";
import { composedNorm } from "./support/compositions.js";
import { gradcheck, size, wave } from "./support/gradcheck.js";
import { expectNear } from "./support/near.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

interface Case {
  kind: fused.Norm["kind"];
  shape: number[];
  offset?: number;
  bias?: boolean;
  /** What its sum takes of the normed. */
  residual?: number;
  strided?: boolean;
  /** Added to all elements: the mean is large beside the variance. */
  far?: number;
}

type Run = (x: Tensor, norm: fused.Norm, residual?: fused.Residual) => Tensor;

const composition: Run = (x, norm, residual) => {
  const y = composedNorm(x, norm);
  return residual ? ops.add(residual.x, ops.mulScalar(y, residual.scale)) : y;
};

async function run(norm: Run, one: Case, x: DType, weight: DType): Promise<Record<string, number[]>> {
  const { kind, shape, offset = 0, bias = false, residual, strided = false, far = 0 } = one;
  const width = shape.at(-1)!;
  const results = scope(() => {
    const tensor = (dims: number[], phase: number, dtype: DType, plus = 0) => {
      const values = ops.fromBytes(
        wave(size(dims), phase).map((value) => value + plus),
        "float64",
        dims,
      );
      return ops.to(ops.to(values, "bfloat16"), dtype);
    };
    const leaves: Record<string, Tensor> = {
      x: tensor(strided ? [...shape.slice(0, -1), width + 3] : shape, 1, x, far),
      weight: tensor([width], 2, weight),
    };
    if (bias) leaves.bias = tensor([width], 3, weight);
    if (residual !== undefined) leaves.residual = tensor(shape, 4, x === "float64" ? x : "float32");
    for (const leaf of Object.values(leaves)) setRequiresGrad(leaf, true);
    const rows = strided ? ops.narrow(leaves.x!, shape.length - 1, 2, width) : leaves.x!;
    const spec = { kind, weight: leaves.weight!, bias: leaves.bias, eps: 1e-5, offset };
    const y = norm(rows, spec, leaves.residual && { x: leaves.residual, scale: residual! });
    backward(ops.sum(ops.mul(ops.to(y, "float64"), tensor(shape, 9, "float64"))));
    const gradients = Object.entries(leaves).map(([name, leaf]) => [`gradient of ${name}`, gradOf(leaf)]);
    return Object.fromEntries([["result", ops.detach(y)], ...gradients]) as Record<string, Tensor>;
  }) as Record<string, Tensor>;
  const values = await Promise.all(
    Object.entries(results).map(async ([name, tensor]) => [name, Array.from(await tensor.values(), Number)]),
  );
  for (const tensor of Object.values(results)) tensor.dispose();
  return Object.fromEntries(values);
}

const cases: Case[] = [];
for (const kind of ["rms", "layer"] as const) {
  cases.push({ kind, shape: [7, 48] }, { kind, shape: [5, 3, 16], offset: 1, strided: true });
  cases.push(
    { kind, shape: [300, 130], bias: true, residual: 1 },
    { kind, shape: [6, 2, 9], bias: true, residual: 0.3 },
  );
  cases.push({ kind, shape: [1, 3] }, { kind, shape: [4, 64], far: 3 });
}

describe.each(cases.map((one) => [JSON.stringify(one), one] as const))("%s", (_, one) => {
  const fusedNorm =
    (dtype: DType): Run =>
    (x, norm, residual) =>
      fused.norm(x, norm, dtype, residual);
  it.each([
    ["float64", "float64", "float64", 1e-12],
    ["float32", "float32", "float32", 5e-6],
    ["float32", "bfloat16", "float32", 1e-2], // gradients of the weights are rounded to bfloat16
    ["bfloat16", "bfloat16", "bfloat16", 1.5e-2],
  ] as const)("equals its composition: x in %s, weights in %s, into %s", async (x, weight, dtype, tolerance) => {
    const expected = await run(composition, one, "float64", "float64");
    const actual = await run(fusedNorm(dtype), one, x, weight);
    expect(Object.keys(actual)).toEqual(Object.keys(expected));
    for (const [name, values] of Object.entries(actual)) expectNear(name, values, expected[name]!, tolerance);
  });
});

describe("has the gradients of finite differences", () => {
  it.each(["rms", "layer"] as const)("%s", async (kind) => {
    await gradcheck([[4, 5], [5], [5], [4, 5]], ([x, weight, bias, residual]) => {
      const norm = { kind, weight: weight!, bias: bias!, eps: 1e-5, offset: 1 };
      return fused.norm(x!, norm, "float64", { x: residual!, scale: 0.3 });
    });
    await gradcheck([[2, 3, 4], [4]], ([x, weight]) =>
      fused.norm(x!, { kind, weight: weight!, eps: 1e-5, offset: 0 }, "float64"),
    );
  });
});

it("is of the residual's dtype where it is added to one, and of the one asked for elsewhere", async () => {
  const [alone, added] = scope(() => {
    const x = ops.to(ops.zeros([2, 4]), "bfloat16");
    const norm = { kind: "rms" as const, weight: ops.zeros([4]), eps: 1e-5, offset: 1 };
    return [
      fused.norm(x, norm, "bfloat16"),
      fused.norm(x, norm, "bfloat16", { x: ops.zeros([2, 4], "float32"), scale: 1 }),
    ];
  });
  expect(alone!.info.dtype).toBe("bfloat16");
  expect(added!.info.dtype).toBe("float32");
  alone!.dispose();
  added!.dispose();
});

it.each<[string, () => Tensor, string]>([
  [
    "a residual of another shape",
    () => {
      const norm = { kind: "rms" as const, weight: ops.zeros([4]), eps: 0, offset: 0 };
      return fused.norm(ops.zeros([2, 4]), norm, "float32", { x: ops.zeros([4, 2]), scale: 1 });
    },
    "expected a residual [2, 4]",
  ],
  [
    "a weight of another width",
    () => fused.norm(ops.zeros([2, 4]), { kind: "layer", weight: ops.zeros([3]), eps: 0, offset: 0 }, "float32"),
    "weight and bias [4] of a floating dtype, got [3]",
  ],
])("refuses %s", async (_, norm, message) => {
  const y = scope(norm);
  await expect(y.values()).rejects.toThrow(message);
  y.dispose();
});
