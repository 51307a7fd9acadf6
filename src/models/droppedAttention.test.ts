import { afterEach, describe, expect, it } from "vitest";
import { type Golden, readGoldens } from "../../tests/support/goldens.js";
import { size, wave } from "../../tests/support/gradcheck.js";
import { expectNear } from "../../tests/support/near.js";
import {
  backward,
  flush,
  fused,
  gradOf,
  liveTensors,
  manualSeed,
  ops,
  scope,
  setRequiresGrad,
  type Tensor,
} from "../torch/index.js";
import type { PaddedShape } from "./batch.js";
import type { Attention } from "./decoder.js";
import { DroppedAttention } from "./droppedAttention.js";
import { PaddedRandom } from "./paddedRandom.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

interface Case {
  lengths: number[];
  padded: PaddedShape;
  heads: number;
  kvHeads: number;
  headDim: number;
  options?: fused.AttentionOptions;
}

function dropped({ lengths, padded, ...shape }: Case, dropout: number): Attention {
  const random = new PaddedRandom(padded, "cpu");
  return new DroppedAttention(lengths, random, dropout, { ...shape, dtype: "float32", device: "cpu" });
}

/** The output, the gradients of q, k and v, and the number that the generator gives next. */
async function run(make: () => Attention, inputs: Golden[], gradient: Golden, options: fused.AttentionOptions) {
  const results = scope(() => {
    const [q, k, v] = inputs.map(({ values, shape }) => ops.float32(values, shape));
    for (const leaf of [q!, k!, v!]) setRequiresGrad(leaf, true);
    const y = make().attend(0, q!, k!, v!, options);
    backward(y, ops.float32(gradient.values, [gradient.shape[0]!, size(gradient.shape.slice(1))]));
    const next = ops.empty([1]);
    ops.uniform_(next, 0, 1);
    return [ops.detach(y), ...[q!, k!, v!].map(gradOf), next];
  });
  const values = await Promise.all(results.map((result: Tensor) => result.values()));
  for (const result of results) result.dispose();
  return values.map((list) => Array.from(list as Float32Array));
}

const NAMES = ["out", "dq", "dk", "dv", "next"];

describe("drops what PyTorch drops under the same seed", () => {
  const cases: Record<string, Case> = {
    whole: { lengths: [6, 6], padded: { rows: [6, 6], width: 6 }, heads: 3, kvHeads: 3, headDim: 6 },
    padded: {
      lengths: [7, 3, 5],
      padded: { rows: [7, 3, 5], width: 7 },
      heads: 4,
      kvHeads: 2,
      headDim: 6,
      options: { scale: 0.3 },
    },
    window: {
      lengths: [9, 4],
      padded: { rows: [9, 4], width: 9 },
      heads: 2,
      kvHeads: 1,
      headDim: 6,
      options: { window: 3 },
    },
    packed: { lengths: [5, 7], padded: { rows: [12], width: 12 }, heads: 2, kvHeads: 2, headDim: 6 },
  };
  it.each(Object.entries(cases))("%s", async (name, one) => {
    const goldens = await readGoldens("attention-dropout.safetensors");
    const golden = (key: string) => goldens.get(`${name}.${key}`)!;
    manualSeed(11);
    const inputs = ["q", "k", "v"].map(golden);
    const actual = await run(() => dropped(one, 0.3), inputs, golden("d_out"), one.options ?? {});
    for (const [i, key] of NAMES.entries()) expectNear(key, actual[i]!, Array.from(golden(key).values), 1e-6);
  });
});

it.each<fused.AttentionOptions>([{}, { softcap: 0.5, scale: 0.9 }, { window: 4 }, { window: 3, softcap: 0.8 }])(
  "is packed_attention where nothing is dropped: %o",
  async (options) => {
    const lengths = [9, 2, 5];
    const one = { lengths, padded: { rows: [11, 5], width: 12 }, heads: 4, kvHeads: 2, headDim: 8 };
    const of = (heads: number, phase: number): Golden => {
      const shape = [16, heads, one.headDim];
      return { shape, values: wave(size(shape), phase) };
    };
    const [q, k, v, gradient] = [of(4, 0), of(2, 1), of(2, 2), of(4, 3)];
    const packed: Attention = {
      attend: (_, ...x) => fused.packedAttention(x[0], x[1], x[2], lengths, undefined, x[3]),
    };
    const expected = await run(() => packed, [q, k, v], gradient, options);
    const actual = await run(() => dropped(one, 0), [q, k, v], gradient, options);
    for (const i of [0, 1, 2, 3]) expectNear(NAMES[i]!, actual[i]!, expected[i]!, 2e-6);
  },
);
