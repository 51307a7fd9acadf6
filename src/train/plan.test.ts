import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { type PlanArguments, planRun, windowOf } from "./plan.js";

const base: PlanArguments = {
  per_device_train_batch_size: 2,
  gradient_accumulation_steps: 4,
  num_train_epochs: 3,
  max_steps: -1,
  dataloader_drop_last: false,
};

const runs = fc.record({
  examples: fc.integer({ min: 1, max: 500 }),
  per_device_train_batch_size: fc.integer({ min: 1, max: 17 }),
  gradient_accumulation_steps: fc.integer({ min: 1, max: 19 }),
  num_train_epochs: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.double({ min: 0.01, max: 6, noNaN: true })),
  max_steps: fc.oneof(fc.constant(-1), fc.integer({ min: 1, max: 300 })),
  dataloader_drop_last: fc.boolean(),
});
type Run = typeof runs extends fc.Arbitrary<infer T> ? T : never;

const fills = ({ examples, per_device_train_batch_size: size, dataloader_drop_last }: Run) =>
  !dataloader_drop_last || examples >= size;

/** Goes through the data as a loop would that knows nothing of formulas. */
function walk(run: Run, updates: number) {
  const { examples, per_device_train_batch_size: size, gradient_accumulation_steps: accumulation } = run;
  const batches: number[] = [];
  for (let row = 0; row < examples; row += size) batches.push(Math.min(size, examples - row));
  if (run.dataloader_drop_last && batches.at(-1)! < size) batches.pop();
  const windows: number[][] = [];
  let epochs = 0;
  while (windows.length < updates) {
    epochs++;
    let window: number[] = [];
    for (const [index, batch] of batches.entries()) {
      window.push(batch);
      if (window.length < accumulation && index < batches.length - 1) continue;
      if (windows.length < updates) windows.push(window);
      window = [];
    }
  }
  return { batches, windows, epochs };
}

describe("planRun", () => {
  it("has the Trainer's formulas", () => {
    fc.assert(
      fc.property(runs.filter(fills), (run) => {
        const plan = planRun(run.examples, run);
        const { per_device_train_batch_size: size, gradient_accumulation_steps: accumulation } = run;
        const loader = run.dataloader_drop_last
          ? Math.trunc(run.examples / size)
          : Math.trunc((run.examples + size - 1) / size);
        const steps = Math.max(Math.trunc(loader / accumulation) + (loader % accumulation > 0 ? 1 : 0), 1);
        expect(plan.batchesPerEpoch).toBe(loader);
        expect(plan.stepsPerEpoch).toBe(steps);
        expect(plan.effectiveBatch).toBe(size * accumulation);
        if (run.max_steps > 0) {
          expect(plan.maxSteps).toBe(run.max_steps);
          expect(plan.epochs).toBe(Math.trunc(run.max_steps / steps) + (run.max_steps % steps > 0 ? 1 : 0));
        } else {
          expect(plan.maxSteps).toBe(Math.ceil(run.num_train_epochs * steps));
          expect(plan.epochs).toBe(Math.ceil(run.num_train_epochs));
        }
      }),
    );
  });

  it("agrees with a walk through the data: windows, epochs, and no batch lost or used twice", () => {
    fc.assert(
      fc.property(runs.filter(fills), (run) => {
        const plan = planRun(run.examples, run);
        const { batches, windows, epochs } = walk(run, plan.maxSteps);
        expect(plan.batchesPerEpoch).toBe(batches.length);
        expect(plan.epochs).toBe(epochs);
        const planned = Array.from({ length: plan.maxSteps }, (_, step) => {
          const [first, end] = windowOf(plan, step % plan.stepsPerEpoch, run.gradient_accumulation_steps);
          return batches.slice(first, end);
        });
        expect(planned).toEqual(windows);
      }),
    );
  });

  it.each<[number, Partial<PlanArguments>, [steps: number, max: number, epochs: number]]>([
    [21, {}, [3, 9, 3]], // 11 batches: windows of 4, 4, 3
    [21, { dataloader_drop_last: true }, [3, 9, 3]], // 10 batches: 4, 4, 2
    [8, {}, [1, 3, 3]],
    [1, {}, [1, 3, 3]],
    [21, { num_train_epochs: 1.5 }, [3, 5, 2]],
    [21, { num_train_epochs: 0.1 }, [3, 1, 1]],
    [21, { max_steps: 7 }, [3, 7, 3]],
    [21, { max_steps: 6, num_train_epochs: 100 }, [3, 6, 2]],
    [7473, { gradient_accumulation_steps: 8 }, [468, 1404, 3]], // GSM8K with the reference snippet
  ])("%d examples, %j", (examples, args, [steps, max, epochs]) => {
    expect(planRun(examples, { ...base, ...args })).toMatchObject({ stepsPerEpoch: steps, maxSteps: max, epochs });
  });

  it("refuses a dataset that does not fill one batch", () => {
    const args = { ...base, per_device_train_batch_size: 8, dataloader_drop_last: true };
    expect(() => planRun(7, args)).toThrow(UserError);
    expect(() => planRun(7, args)).toThrow("7 examples do not fill one batch of per_device_train_batch_size 8");
    expect(planRun(8, args).batchesPerEpoch).toBe(1);
  });
});
