/** A sequence that is continued through the cache sees what it would see if it were computed as a whole. */
import { afterEach, expect, it } from "vitest";
import { expectNear } from "../../tests/support/near.js";
import { flush, fused, liveTensors, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { KeyValueCache } from "./cache.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const shape = { heads: 4, kvHeads: 2, headDim: 8, dtype: "float32", device: "cpu" } as const;
const STEPS = 5;

it.each<[string, number[], fused.AttentionOptions]>([
  ["all keys", [126, 126], {}],
  ["all keys, padded", [7, 126, 40], {}],
  ["a scale", [3, 9], { scale: 0.8 }],
  ["a window that is shorter", [3, 9, 30], { window: 6 }],
  ["a window of 1", [3, 9], { window: 1 }],
  ["a window that the sequences outgrow", [3, 9], { window: 11 }],
  ["a softcap", [126, 9], { softcap: 0.7 }],
  ["all of them", [3, 9, 126], { softcap: 0.7, scale: 1, window: 8 }],
])("with %s", async (_, lengths, options) => {
  const wholes = lengths.map((length) => length + STEPS);
  const starts = wholes.map((_, i) => wholes.slice(0, i).reduce((a, b) => a + b, 0));
  const total = wholes.reduce((a, b) => a + b, 0);
  const random = (heads: number): Tensor => {
    const x = ops.empty([total, heads, shape.headDim]);
    ops.normal_(x, 0, 1);
    return x;
  };
  const tensors = [random(shape.heads), random(shape.kvHeads), random(shape.kvHeads)] as const;
  const whole = fused.packedAttention(...tensors, wholes, undefined, options);
  const expected = Array.from((await whole.values()) as Float32Array);
  const width = shape.heads * shape.headDim;
  const rowsOf = (values: number[], rows: number[]) =>
    rows.flatMap((row) => values.slice(row * width, (row + 1) * width));

  const cache = new KeyValueCache(lengths, shape);
  const attend = async (attention: () => ReturnType<KeyValueCache["step"]>, rows: number[]): Promise<number[]> => {
    const y = noGrad(() =>
      scope(() => {
        const [q, k, v] = tensors.map((x) => ops.indexSelect(x, 0, ops.int64(rows)));
        const { attend } = attention();
        attend(1, q!, k!, v!, options); // a layer of its own
        return scope(() => attend(0, q!, k!, v!, options));
      }),
    );
    const values = Array.from((await y.values()) as Float32Array);
    y.dispose();
    return values;
  };
  const prompt = lengths.flatMap((length, i) => Array.from({ length }, (_, place) => starts[i]! + place));
  expectNear("prefill", await attend(() => cache.prefill(), prompt), rowsOf(expected, prompt), 1e-6);
  for (let step = 0; step < STEPS; step++) {
    const rows = lengths.map((length, i) => starts[i]! + length + step);
    expectNear(`step ${step}`, await attend(() => cache.step(), rows), rowsOf(expected, rows), 1e-6);
  }
  cache.dispose();
  for (const tensor of [...tensors, whole]) tensor.dispose();
});
