import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PackedRow, type PackingOptions, packExamples } from "./packing.js";
import type { Example } from "./tokenize.js";

/** Examples of the given lengths; each token is unlike any other, and all but the first of an example are learned. */
function makeExamples(lengths: readonly number[]): Example[] {
  return lengths.map((length, example) => {
    const inputIds = Int32Array.from({ length }, (_, i) => example * 1000 + i);
    return { inputIds, labels: inputIds.map((id, i) => (i === 0 ? -100 : id)) };
  });
}

/** The pieces of packed rows in the order of the tokens. */
async function piecesOf(examples: readonly Example[], options: PackingOptions) {
  const { rows, report } = await packExamples(examples, options);
  const pieces: number[][] = [];
  for (const { inputIds, labels, lengths } of rows) {
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(inputIds.length);
    expect(inputIds.length).toBeLessThanOrEqual(options.max_length);
    expect(labels).toEqual(inputIds.map((id) => (id % 1000 === 0 ? -100 : id)));
    let start = 0;
    for (const length of lengths) {
      pieces.push([...inputIds.subarray(start, start + length)]);
      start += length;
    }
  }
  return { rows, report, pieces: pieces.sort((a, b) => a[0]! - b[0]!) };
}

/** Rows of pieces of one token each, which nothing predicts. */
const rowsOfSingles = (rows: readonly PackedRow[]) =>
  rows.filter(({ lengths }) => lengths.every((length) => length === 1)).length;

const lengths = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 60 });
const options = fc.record({ max_length: fc.constantFrom(16, 37, 64, 128), max_positions: fc.constantFrom(20, 256) });

describe("packing", () => {
  it("bfd keeps every example whole, but for what is longer than a row", async () => {
    await fc.assert(
      fc.asyncProperty(lengths, options, async (sizes, { max_length, max_positions }) => {
        const limit = Math.min(max_length, max_positions);
        const examples = makeExamples(sizes);
        const { rows, pieces, report } = await piecesOf(examples, {
          max_length,
          max_positions,
          packing_strategy: "bfd",
        });
        expect(pieces).toEqual(examples.map(({ inputIds }) => [...inputIds.subarray(0, limit)]));
        expect(report).toEqual({
          overlong: sizes.filter((size) => size > limit).length,
          withoutLabel: rowsOfSingles(rows),
          tokens: pieces.flat().length,
          labels: pieces.flat().length - pieces.length,
        });
      }),
    );
  });

  it.each(["bfd_split", "wrapped"] as const)(
    "%s keeps every token once, in pieces of one example",
    async (strategy) => {
      await fc.assert(
        fc.asyncProperty(lengths, options, async (sizes, { max_length, max_positions }) => {
          const examples = makeExamples(sizes);
          const given = { max_length, max_positions, packing_strategy: strategy };
          const { rows, pieces, report } = await piecesOf(examples, given);
          expect(pieces.flat()).toEqual(examples.flatMap(({ inputIds }) => [...inputIds]));
          expect(report.withoutLabel).toBe(
            rows.filter(({ lengths }) => lengths.every((length) => length === 1)).length,
          );
          for (const piece of pieces) {
            expect(piece.length).toBeLessThanOrEqual(max_positions);
            expect(piece).toEqual(piece.map((_, i) => piece[0]! + i));
            expect(Math.floor(piece[0]! / 1000)).toBe(Math.floor(piece.at(-1)! / 1000));
          }
        }),
      );
    },
  );

  it("wrapped fills every row but the last", async () => {
    const { rows } = await packExamples(makeExamples([30, 50, 7, 60]), { max_length: 40, packing_strategy: "wrapped" });
    expect(rows.map(({ lengths }) => lengths)).toEqual([[30, 10], [40], [7, 33], [27]]);
  });

  it("puts each example into the fullest row that has room", async () => {
    const { rows } = await packExamples(makeExamples([3, 9, 4, 6, 2, 7]), { max_length: 10, packing_strategy: "bfd" });
    expect(rows.map(({ lengths }) => lengths)).toEqual([[9], [7, 3], [6, 4], [2]]);
  });

  it.each(["bfd", "bfd_split", "wrapped"] as const)("%s takes a max_length beyond all examples", async (strategy) => {
    const { rows } = await packExamples(makeExamples([3, 9, 4]), { max_length: 2 ** 40, packing_strategy: strategy });
    expect(rows.map(({ lengths }) => lengths.toSorted())).toEqual([[3, 4, 9]]);
  });

  it("packs every thousand examples among themselves, as TRL does", async () => {
    const { rows } = await packExamples(makeExamples(Array.from({ length: 1001 }, () => 2)), {
      max_length: 4000,
      packing_strategy: "bfd",
    });
    expect(rows.map(({ lengths }) => lengths.length)).toEqual([1000, 1]);
  });

  it("keeps rows in which nothing is learned, and leaves out empty examples, as TRL does", async () => {
    const masked: Example = { inputIds: Int32Array.of(1, 2, 3), labels: Int32Array.of(-100, -100, -100) };
    const empty: Example = { inputIds: new Int32Array(0), labels: new Int32Array(0) };
    const { rows, report } = await packExamples([masked, empty, ...makeExamples([4, 1])], {
      max_length: 4,
      packing_strategy: "bfd",
    });
    expect(rows.map(({ lengths }) => lengths)).toEqual([[4], [3, 1]]);
    expect(report).toMatchObject({ withoutLabel: 1, tokens: 8, labels: 3 });
  });
});
