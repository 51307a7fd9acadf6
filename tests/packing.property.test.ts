/** Packing changes nothing but speed: the loss and every gradient equal those of the examples one by one. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packExamples } from "../src/data/packing.js";
import type { Sequence } from "../src/models/batch.js";
import type { CausalLM } from "../src/models/causalLM.js";
import { loadCausalLM } from "../src/models/load.js";
import { float32Precision } from "../src/models/precision.js";
import { clearGrad, flush, gradOf, liveTensors, scope, setRequiresGrad } from "../src/torch/index.js";
import { accumulate } from "../src/train/accumulate.js";
import { fixturePath, worstDifference } from "./support/goldens.js";

const VOCABULARY = 384;
const example = fc
  .array(fc.record({ id: fc.nat(VOCABULARY - 1), learned: fc.boolean() }), { minLength: 2, maxLength: 20 })
  .map((tokens) => ({
    inputIds: Int32Array.from(tokens, ({ id }) => id),
    // The last token is always learned, so that every example gives a loss.
    labels: Int32Array.from(tokens, ({ id, learned }, i) => (learned || i === tokens.length - 1 ? id : -100)),
  }));

describe("packed rows", () => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await loadCausalLM(fixturePath("tiny-llama"), { precision: float32Precision, trained: () => true });
    for (const { tensor } of model.parameters.values()) setRequiresGrad(tensor, true);
  });
  afterAll(async () => {
    model.dispose();
    await flush();
    expect(liveTensors()).toBe(0);
  });

  async function gradients(window: Sequence[][], paddingFree: boolean, passTokens = 0) {
    const parameters = [...model.parameters.values()];
    const layout = { paddingFree, padToMultipleOf: null };
    const objective = { labelSmoothing: 0, neftuneAlpha: null };
    const trainable = { model, device: "cpu" as const, parameters, layout, objective, passTokens, recomputeEvery: 0 };
    const { loss } = await accumulate(trainable, window, 1);
    const values: Float32Array[] = [];
    for (const { tensor } of parameters) {
      const gradient = scope(() => gradOf(tensor));
      values.push((await gradient.values()) as Float32Array);
      gradient.dispose();
      clearGrad(tensor);
    }
    return { loss, values };
  }

  it("give the loss and gradients of the examples one by one", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(example, { minLength: 2, maxLength: 7 }),
        fc.constantFrom("bfd", "bfd_split"),
        fc.boolean(),
        async (examples, packing_strategy, paddingFree) => {
          const { rows } = await packExamples(examples, { max_length: 40, packing_strategy });
          expect(rows.length).toBeLessThanOrEqual(examples.length);
          const packed = await gradients([rows], paddingFree);
          const single = await gradients(
            examples.map((one) => [one]),
            false,
          );
          expect(Math.abs(packed.loss - single.loss) / single.loss).toBeLessThan(1e-5);
          for (const [i, values] of packed.values.entries()) {
            expect(worstDifference(values, single.values[i]!)).toBeLessThan(1e-5);
          }
        },
      ),
      { numRuns: 15 },
    );
  });

  it("and micro-batches computed together change neither", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(example, { minLength: 1, maxLength: 3 }), { minLength: 2, maxLength: 5 }),
        fc.integer({ min: 20, max: 200 }),
        async (window, passTokens) => {
          const alone = await gradients(window, false);
          const together = await gradients(window, false, passTokens);
          expect(Math.abs(together.loss - alone.loss) / alone.loss).toBeLessThan(1e-5);
          for (const [i, values] of together.values.entries()) {
            expect(worstDifference(values, alone.values[i]!)).toBeLessThan(1e-5);
          }
        },
      ),
      { numRuns: 10 },
    );
  });

  it("of wrapped give those of the pieces one by one", async () => {
    const make = (length: number, first: number) => {
      const inputIds = Int32Array.from({ length }, (_, i) => (first + i * 7) % VOCABULARY);
      return { inputIds, labels: inputIds };
    };
    const { rows } = await packExamples([make(30, 3), make(25, 50), make(9, 111)], {
      max_length: 16,
      packing_strategy: "wrapped",
    });
    const pieces = rows.flatMap(({ inputIds, labels, lengths }) => {
      let start = 0;
      return lengths.map((length) => {
        const piece = {
          inputIds: inputIds.subarray(start, start + length),
          labels: labels.subarray(start, start + length),
        };
        start += length;
        return [piece];
      });
    });
    expect(pieces.length).toBeGreaterThan(rows.length);
    const packed = await gradients([rows], false);
    const single = await gradients(pieces, false);
    expect(Math.abs(packed.loss - single.loss) / single.loss).toBeLessThan(1e-5);
    for (const [i, values] of packed.values.entries()) {
      expect(worstDifference(values, single.values[i]!)).toBeLessThan(1e-5);
    }
  });
});
