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

type Attend = (q: Tensor, k: Tensor, v: Tensor, lengths: number[], options: fused.AttentionOptions) => Tensor;

const packed: Attend = (q, k, v, lengths, options) => fused.packedAttention(q, k, v, lengths, undefined, options);

/** Sequence by sequence, every score and all of its formula. */
const composition: Attend = (q, k, v, lengths, { scale, softcap = 0, window = 0 }) => {
  const [, heads, dim] = q.shape as [number, number, number];
  let start = 0;
  const parts = lengths.map((length) => {
    const rows = (x: Tensor) => ops.transpose(ops.narrow(x, 0, start, length), 0, 1); // [heads, T, D]
    const forEachHead = (x: Tensor) => {
      const group = heads / x.shape[0]!;
      return ops.indexSelect(x, 0, ops.int64(Array.from({ length: heads }, (_, head) => Math.floor(head / group))));
    };
    const product = ops.matmul(rows(q), ops.transpose(forEachHead(rows(k)), 1, 2));
    let scores = ops.mulScalar(product, scale ?? 1 / Math.sqrt(dim)); // [heads, T, T]
    if (softcap > 0) scores = ops.mulScalar(ops.tanh(ops.mulScalar(scores, 1 / softcap)), softcap);
    const hidden = Float64Array.from({ length: length * length }, (_, i) => {
      const before = Math.floor(i / length) - (i % length);
      return before >= 0 && (window === 0 || before < window) ? 0 : Number.NEGATIVE_INFINITY;
    });
    scores = ops.add(scores, ops.fromBytes(hidden, "float64", [length, length]));
    const y = ops.matmul(ops.softmax(scores, -1), forEachHead(rows(v)));
    start += length;
    return ops.reshape(ops.transpose(y, 0, 1), [length, -1]);
  });
  return ops.cat(parts);
};

interface Case {
  lengths: number[];
  heads: number;
  kvHeads: number;
  dim: number;
  options?: fused.AttentionOptions;
}

/**
 * The output and the gradients of q, k and v, each as numbers. With `slices`, q, k and v are columns of one wider
 * matrix, as a fused projection leaves them.
 */
async function run(attend: Attend, { lengths, heads, kvHeads, dim, options = {} }: Case, dtype: DType, slices = false) {
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
    const y = attend(q!, k!, v!, lengths, options);
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
  { lengths: [40, 3], heads: 2, kvHeads: 1, dim: 16, options: { scale: 0.7 } },
  { lengths: [7, 130], heads: 2, kvHeads: 2, dim: 24, options: { softcap: 0.5, scale: 1 } },
  { lengths: [70, 9], heads: 3, kvHeads: 1, dim: 16, options: { window: 2 } },
  { lengths: [70, 9, 200], heads: 3, kvHeads: 1, dim: 20, options: { window: 9 } },
  { lengths: [33, 200], heads: 6, kvHeads: 2, dim: 8, options: { window: 33 } },
  { lengths: [60, 5], heads: 2, kvHeads: 1, dim: 8, options: { window: 2 ** 40 } },
  { lengths: [1100, 600], heads: 2, kvHeads: 1, dim: 16, options: { window: 50 } },
  { lengths: [1100], heads: 1, kvHeads: 1, dim: 8, options: { window: 500, softcap: 2 } }, // keys of three pieces
  { lengths: [520, 300], heads: 4, kvHeads: 2, dim: 16, options: { window: 255, softcap: 1, scale: 0.3 } },
];
const describeCase = ({ lengths, heads, kvHeads, dim, options }: Case) =>
  `${lengths} × ${heads}/${kvHeads} heads of ${dim} ${JSON.stringify(options ?? {})}`;

describe.each(cases.map((one) => ({ ...one, title: describeCase(one) })))("$title", (one) => {
  const reference = { ...one, lengths: one.lengths.filter((length) => length > 0) };

  it("is the composition, float32", async () => {
    expectAllNear(await run(packed, one, "float32"), await run(composition, reference, "float64"), 5e-6);
  });

  it("takes columns of a wider matrix, and gives the same bits", async () => {
    expect(await run(packed, one, "float32", true)).toEqual(await run(packed, one, "float32"));
  });

  it.each([
    // the rounding of the result, and as much in the output that the backward pass takes its sums from
    { dtype: "bfloat16", tolerance: 1e-2 }, // 2⁻⁹
    { dtype: "float16", tolerance: 1.25e-3 }, // 2⁻¹²
  ] as const)(
    "differs by $dtype's rounding from the float64 result of the same values",
    async ({ dtype, tolerance }) => {
      const rounded: Attend = (q, k, v, lengths, options) => {
        const wide = (x: Tensor) => ops.to(x, "float64");
        return ops.to(composition(wide(q), wide(k), wide(v), lengths, options), dtype);
      };
      expectAllNear(await run(packed, one, dtype), await run(rounded, reference, dtype), tolerance);
    },
  );
});

describe("gradients", () => {
  it.each([
    { lengths: [4, 1, 3], heads: 4, kvHeads: 2, dim: 6 },
    { lengths: [9], heads: 2, kvHeads: 1, dim: 3 },
    { lengths: [9, 2], heads: 2, kvHeads: 1, dim: 3, options: { window: 4, scale: 1.3 } },
    { lengths: [9], heads: 2, kvHeads: 1, dim: 3, options: { window: 1 } },
    { lengths: [9], heads: 2, kvHeads: 2, dim: 3, options: { softcap: 0.6, scale: 0.9 } },
    { lengths: [11], heads: 2, kvHeads: 1, dim: 2, options: { softcap: 1.5, window: 3 } },
  ] as Case[])("are those of finite differences: %o", async ({ lengths, heads, kvHeads, dim, options }) => {
    const n = lengths.reduce((a, b) => a + b, 0);
    await gradcheck(
      [
        [n, heads, dim],
        [n, kvHeads, dim],
        [n, kvHeads, dim],
      ],
      ([q, k, v]) => packed(q!, k!, v!, lengths, options ?? {}),
    );
  });

  it.each([{}, { window: 70, softcap: 1 }])("are the same bits every time: %o", async (options) => {
    const one = { lengths: [300, 40, 90], heads: 6, kvHeads: 2, dim: 32, options };
    expect(await run(packed, one, "float32")).toEqual(await run(packed, one, "float32"));
  });
});

it("is the values themselves where the window is 1", async () => {
  const one = { lengths: [70, 9], heads: 3, kvHeads: 3, dim: 16, options: { window: 1, softcap: 2 } };
  const [y] = await run(packed, one, "float32");
  expect(y).toEqual(Array.from(Float32Array.from(wave(79 * 3 * 16, 2))));
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

it.each<[string, number[], fused.AttentionOptions, RegExp]>([
  ["lengths that do not add up", [2, 3], {}, /do not add up to N, 4/],
  ["a negative length", [-1, 5], {}, /do not add up to N, 4/],
  ["a negative window", [4], { window: -2 }, /the window must be 0, for none, or a number of keys, not -2/],
  ["a negative softcap", [4], { softcap: -1 }, /the softcap must be 0, for none, or a finite number above, not -1/],
  ["a softcap without end", [4], { softcap: Number.POSITIVE_INFINITY }, /the softcap must be 0, .* not inf/],
  ["a scale that is no number", [4], { scale: Number.NaN }, /the scale must be a finite number, not nan/],
])("refuses %s", async (_, lengths, options, message) => {
  const q = ops.zeros([4, 2, 8]);
  const y = packed(q, q, q, lengths, options);
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
