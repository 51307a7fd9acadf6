import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { manualSeed } from "../torch/index.js";
import { groupByLength, lengthGroupedEpoch } from "./lengthGrouped.js";
import { epochOrder } from "./order.js";

const lengths = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 300 });
const sorted = (rows: Iterable<number>) => [...rows].sort((a, b) => a - b);

describe("group_by_length", () => {
  it("is a permutation that begins with the longest, and sorts each stretch", () => {
    fc.assert(
      fc.property(
        lengths,
        fc.integer({ min: 1, max: 40 }),
        fc.infiniteStream(fc.nat()),
        (sizes, updateSize, random) => {
          const keys = sizes.map(() => random.next().value!);
          const permutation = sizes.map((_, i) => i).sort((a, b) => keys[a]! - keys[b]!);
          const order = groupByLength(permutation, sizes, updateSize);
          expect(sorted(order)).toEqual(sizes.map((_, i) => i));
          expect(sizes[order[0]!]).toBe(Math.max(...sizes));
          const stretch = updateSize * Math.max(1, Math.min(Math.floor(sizes.length / (updateSize * 4)), 50));
          for (let i = 1; i < order.length; i++) {
            const border = i % stretch === 0 || (i - 1) % stretch === 0; // the heads may have been exchanged
            if (!border) expect(sizes[order[i]!]!).toBeLessThanOrEqual(sizes[order[i - 1]!]!);
          }
        },
      ),
    );
  });

  it("draws the same order from the same state, and anew in the next epoch", async () => {
    const sizes = Array.from({ length: 100 }, (_, i) => (i * 37) % 50);
    manualSeed(3);
    const first = await lengthGroupedEpoch(sizes, 2);
    const second = await lengthGroupedEpoch(sizes, 2);
    expect(second.order).not.toEqual(first.order);
    expect((await lengthGroupedEpoch(sizes, 2, second.state)).order).toEqual(second.order);
    manualSeed(3);
    expect((await lengthGroupedEpoch(sizes, 2)).order).toEqual(first.order);
    expect((await lengthGroupedEpoch(sizes, 2)).order).toEqual(second.order); // redrawing moved nothing on
  });
});

describe("random and sequential order", () => {
  it.each(["random", "sequential"])("%s is a permutation, the same for the same seed and epoch", async (strategy) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 400 }), fc.nat(1e6), fc.nat(5), async (n, seed, epoch) => {
        const args = { seed, data_seed: null, train_sampling_strategy: strategy };
        const order = await epochOrder(n, epoch, args);
        expect(sorted(order)).toEqual(Array.from({ length: n }, (_, i) => i));
        expect(await epochOrder(n, epoch, args)).toEqual(order);
        expect(await epochOrder(n, epoch, { ...args, seed: 0, data_seed: seed })).toEqual(order);
      }),
      { numRuns: 30 },
    );
  });
});
