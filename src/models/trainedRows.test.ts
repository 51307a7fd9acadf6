/** Rows in place of a frozen matrix's, against the matrix with them in it. */
import { afterEach, expect, it } from "vitest";
import { worstDifference } from "../../tests/support/goldens.js";
import { backward, flush, gradOf, liveTensors, ops, scope, setRequiresGrad, type Tensor } from "../torch/index.js";
import { TrainedRows } from "./trainedRows.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const count = (from: number, ...shape: number[]) =>
  ops.float32(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => from + i / 8),
    shape,
  );

async function valuesOf(x: Tensor): Promise<number[]> {
  const values = await x.values();
  x.dispose();
  return Array.from(values, Number);
}

it("stand where their tokens are, and a padding token's gets no gradient from there", async () => {
  const rows = new TrainedRows([4, 1], count(100, 2, 3), "cpu");
  setRequiresGrad(rows.values, true);
  const ids = [0, 4, 1, 4, 2];
  const embedded = scope(() => {
    const made = rows.embedded(count(0, 5, 3), ids, 1);
    backward(ops.sum(made));
    return made;
  });
  expect(await valuesOf(embedded)).toEqual(
    [
      [0, 1 / 8, 2 / 8],
      [100, 100.125, 100.25],
      [100.375, 100.5, 100.625],
      [100, 100.125, 100.25],
      [1.5, 1.625, 1.75],
    ].flat(),
  );
  expect(await valuesOf(gradOf(rows.values))).toEqual([2, 2, 2, 0, 0, 0]);
  rows.dispose();
});

it("give the logits of the matrix that has them", async () => {
  const rows = new TrainedRows([4, 1], count(3, 2, 3), "cpu");
  const [actual, expected] = scope(() => {
    const [matrix, input] = [count(0, 6, 3), count(-1, 2, 3)];
    const { input: x, weight } = rows.logits(input, matrix, 6, "float32");
    const changed = ops.indexSelect(ops.cat([matrix, rows.values]), 0, ops.int64([0, 7, 2, 3, 6, 5]));
    const sum = ops.add(ops.linear(input, matrix), ops.linear(x, ops.to(weight, "float32")));
    return [sum, ops.linear(input, changed)] as const;
  });
  expect(worstDifference(await valuesOf(actual), await valuesOf(expected))).toBeLessThan(1e-6);
  rows.dispose();
});
