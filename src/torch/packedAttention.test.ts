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

type Attend = (q: Tensor, k: Tensor, v: Tensor, lengths: number[]) => Tensor;

/** One scaled_dot_product_attention for each sequence. */
const composition: Attend = (q, k, v, lengths) => {
  let start = 0;
  const parts = lengths.map((length) => {
    const rows = (x: Tensor) => ops.unsqueeze(ops.transpose(ops.narrow(x, 0, start, length), 0, 1), 0); // [1, heads, T, D]
    const y = ops.attention(rows(q), rows(k), rows(v), { causal: true, grouped: true });
    start += length;
    return ops.reshape(ops.transpose(y, 1, 2), [length, -1]);
  });
  return ops.cat(parts);
};

interface Case {
  lengths: number[];
  heads: number;
  kvHeads: number;
  dim: number;
}

/**
 * The output and the gradients of q, k and v, each as numbers. With `slices`, q, k and v are columns of one wider
 * matrix, as a fused projection leaves them.
 */
async function run(attend: Attend, { lengths, heads, kvHeads, dim }: Case, dtype: DType, slices = false) {
  const n = lengths.reduce((a, b) => a + b, 0);
  const results = scope(() => {
    const tensor = (shape: number[], phase: number) =>
      ops.to(ops.fromBytes(wave(size(shape), phase), "float64", shape), dtype);
    const counts = [heads, kvHeads, kvHeads];
    const leaves = counts.map((count, i) => tensor([n, count * dim], i));
    for (const leaf of leaves) setRequiresGrad(leaf, true);
    let start = 0;
    const wide = slices ? ops.cat(leaves, 1) : undefined;
    const [q, k, v] = counts.map((count, i) => {
      const columns = wide ? ops.narrow(wide, 1, start, count * dim) : leaves[i]!;
      start += count * dim;
      return ops.reshape(columns, [n, count, dim]);
    });
    const y = attend(q!, k!, v!, lengths);
    backward(y, tensor([n, heads * dim], 7));
    return [ops.detach(y), ...leaves.map(gradOf)];
  });
  const values = await Promise.all(results.map((result) => result.values()));
  for (const result of results) result.dispose();
  return values.map((list) => Array.from(list as Float32Array));
}

const names = ["output", "gradient of q", "gradient of k", "gradient of v"];

function expectAllNear(actual: number[][], expected: number[][], tolerance: number): void {
  names.forEach((name, i) => {
    expectNear(name, actual[i]!, expected[i]!, tolerance);
  });
}

const cases: Case[] = [
  { lengths: [5], heads: 2, kvHeads: 2, dim: 16 },
  { lengths: [1, 1, 3, 1], heads: 3, kvHeads: 1, dim: 64 },
  { lengths: [180, 97], heads: 9, kvHeads: 3, dim: 64 },
  { lengths: [33, 0, 64, 17], heads: 4, kvHeads: 2, dim: 80 },
  { lengths: [130], heads: 5, kvHeads: 1, dim: 128 },
  { lengths: [7, 50], heads: 4, kvHeads: 4, dim: 6 },
  { lengths: [700, 257, 256, 3], heads: 2, kvHeads: 1, dim: 16 }, // in pieces
  { lengths: [1100], heads: 1, kvHeads: 1, dim: 1 },
  { lengths: [342, 341, 341, 341], heads: 1, kvHeads: 1, dim: 1 }, // the shorter ones' blocks have more rows
];
const describeCase = ({ lengths, heads, kvHeads, dim }: Case) => `${lengths} × ${heads}/${kvHeads} heads of ${dim}`;

describe.each(cases.map((one) => ({ ...one, title: describeCase(one) })))("$title", (one) => {
  const reference = { ...one, lengths: one.lengths.filter((length) => length > 0) };

  it("is scaled_dot_product_attention by sequence, float32", async () => {
    expectAllNear(await run(fused.packedAttention, one, "float32"), await run(composition, reference, "float64"), 5e-6);
  });

  it("takes columns of a wider matrix, and gives the same bits", async () => {
    expect(await run(fused.packedAttention, one, "float32", true)).toEqual(
      await run(fused.packedAttention, one, "float32"),
    );
  });

  it.each([
    // the rounding of the result, and as much in the output that the backward pass takes its sums from
    { dtype: "bfloat16", tolerance: 1e-2 }, // 2⁻⁹
    { dtype: "float16", tolerance: 1.25e-3 }, // 2⁻¹²
  ] as const)(
    "differs by $dtype's rounding from the float64 result of the same values",
    async ({ dtype, tolerance }) => {
      const rounded: Attend = (q, k, v, lengths) => {
        const wide = (x: Tensor) => ops.to(x, "float64");
        return ops.to(composition(wide(q), wide(k), wide(v), lengths), dtype);
      };
      expectAllNear(await run(fused.packedAttention, one, dtype), await run(rounded, reference, dtype), tolerance);
    },
  );
});

describe("gradients", () => {
  it.each([
    { lengths: [4, 1, 3], heads: 4, kvHeads: 2, dim: 6 },
    { lengths: [9], heads: 2, kvHeads: 1, dim: 3 },
  ])("are those of finite differences: $lengths, $heads/$kvHeads heads of $dim", async ({ lengths, ...shape }) => {
    const n = lengths.reduce((a, b) => a + b, 0);
    const { heads, kvHeads, dim } = shape;
    await gradcheck(
      [
        [n, heads, dim],
        [n, kvHeads, dim],
        [n, kvHeads, dim],
      ],
      ([q, k, v]) => fused.packedAttention(q!, k!, v!, lengths),
    );
  });

  it("are the same bits every time", async () => {
    const one = { lengths: [300, 40, 90], heads: 6, kvHeads: 2, dim: 32 };
    expect(await run(fused.packedAttention, one, "float32")).toEqual(await run(fused.packedAttention, one, "float32"));
  });
});

it("keeps what is not a number within its sequence", async () => {
  const y = noGrad(() =>
    scope(() => {
      const x = ops.float32(
        Array.from({ length: 6 * 4 }, (_, i) => (i === 0 ? Number.NaN : 1)),
        [6, 1, 4],
      );
      return fused.packedAttention(x, x, x, [3, 3]);
    }),
  );
  const missing = Array.from((await y.values()) as Float32Array, Number.isNaN);
  y.dispose();
  expect(missing).toEqual(missing.map((_, i) => i < 12));
});

it.each<[string, number[], RegExp]>([
  ["lengths that do not add up", [2, 3], /do not add up to N, 4/],
  ["a negative length", [-1, 5], /do not add up to N, 4/],
])("refuses %s", async (_, lengths, message) => {
  const q = ops.zeros([4, 2, 8]);
  const y = fused.packedAttention(q, q, q, lengths);
  await expect(y.values()).rejects.toThrow(message);
  q.dispose();
  y.dispose();
});

it("takes offsets that were made for all layers, and refuses others", async () => {
  const lengths = [3, 0, 2];
  const offsets = fused.sequenceOffsets(lengths, "cpu");
  expect(offsets.info.dtype).toBe("int32");
  expect(Array.from(await offsets.values(), Number)).toEqual([0, 3, 3, 5]);
  const q = ops.fromBytes(wave(size([5, 2, 8]), 0), "float64", [5, 2, 8]);
  const results = [fused.packedAttention(q, q, q, lengths), fused.packedAttention(q, q, q, lengths, offsets)];
  expect(await results[1]!.values()).toEqual(await results[0]!.values());
  for (const wrong of [fused.sequenceOffsets([5], "cpu"), ops.int64([0, 3, 3, 5])]) {
    const y = fused.packedAttention(q, q, q, lengths, wrong);
    await expect(y.values()).rejects.toThrow("offsets must be int32 [4], on the device of q");
    for (const tensor of [y, wrong]) tensor.dispose();
  }
  for (const tensor of [offsets, q, ...results]) tensor.dispose();
});
