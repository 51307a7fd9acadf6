/** The rotary embedding against its composition of PyTorch's ops, result and gradient. */
import { afterEach, expect, it } from "vitest";
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

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

/** x·cos + rotateHalf(x)·sin with tables of whole width, as transformers computes it. */
function composed(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const half = x.shape[2]! / 2;
  const whole = (table: Tensor) => ops.unsqueeze(ops.cat([table, table], 1), 1);
  const turned = ops.cat([ops.neg(ops.narrow(x, 2, half, half)), ops.narrow(x, 2, 0, half)], 2);
  return ops.add(ops.mul(x, whole(cos)), ops.mul(turned, whole(sin)));
}

async function compare(shape: [number, number, number], dtype: DType, { strided = false } = {}): Promise<number> {
  manualSeed(3);
  const [tokens, heads, dim] = shape;
  const table = dtype === "float64" ? "float64" : "float32";
  const draw = (size: number[], type: DType) => {
    const x = ops.empty(size);
    ops.normal_(x, 0, 1);
    return ops.clone(ops.to(x, type));
  };
  const results: Float64Array[][] = [];
  const tensors = scope(() => {
    const [angles, wide, weights] = noGrad(() => [
      draw([tokens, dim / 2], table),
      draw([tokens, strided ? 2 * heads * dim : heads * dim], dtype),
      draw(shape, "float64"),
    ]);
    const [cos, sin] = [ops.cos(angles!), ops.sin(angles!)];
    setRequiresGrad(wide!, true);
    return [composed, fused.rope].flatMap((turn) => {
      const rows = ops.reshape(strided ? ops.narrow(wide!, 1, heads * dim, heads * dim) : wide!, shape);
      const y = turn(rows, cos, sin);
      backward(ops.sum(ops.mul(ops.to(y, "float64"), weights!)));
      const gradient = ops.clone(gradOf(wide!));
      noGrad(() => ops.zero_(gradOf(wide!)));
      return [ops.detach(y), gradient];
    });
  });
  for (const tensor of tensors) {
    results.push([Float64Array.from(await tensor.values(), Number)]);
    tensor.dispose();
  }
  const [y, dx, fusedY, fusedDx] = results.map(([values]) => values!);
  const worst = (a: Float64Array, b: Float64Array) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
  return Math.max(worst(y!, fusedY!), worst(dx!, fusedDx!));
}

it.each([
  ["float64", 1e-14],
  ["float32", 1e-6],
  ["bfloat16", 0.04],
] as const)("equals its composition in %s", async (dtype, tolerance) => {
  for (const shape of [
    [1, 1, 2],
    [5, 3, 6],
    [300, 9, 64],
  ] as [number, number, number][]) {
    expect(await compare(shape, dtype)).toBeLessThan(tolerance);
    expect(await compare(shape, dtype, { strided: true })).toBeLessThan(tolerance);
  }
  expect(await compare([0, 2, 4], dtype)).toBe(0);
});
