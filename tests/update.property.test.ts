/** An update that fails at any place leaves nothing behind: tried again, the run is the same to the last bit. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { TrainingArguments, type TrainingArgumentsInput } from "../src/index.js";
import type { Sequence } from "../src/models/batch.js";
import type { Optimizer } from "../src/optim/optimizer.js";
import { flush, liveTensors, loadNative, manualSeed, rngState } from "../src/torch/index.js";
import { createOptimizer } from "../src/train/optimizers.js";
import { type PreparedRun, prepareRun } from "../src/train/prepare.js";
import { makeUpdate, UpdateFailure, type UpdateHooks, type UpdateOptions } from "../src/train/update.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyConfig } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
afterAll(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const UPDATES = 4;
const OPTIONS: UpdateOptions = { learningRate: 1e-2, maxGradNorm: 0.5, lossScale: 1 };
const HOOKS: UpdateHooks = { computed: async () => true, beforeStep: async () => {} };

/** The window of update `index`: three micro-batches of two rows. */
const windowOf = ({ examples }: PreparedRun, index: number): Sequence[][] =>
  [0, 1, 2].map((batch) => [0, 1].map((row) => examples[(index * 6 + batch * 2 + row) % examples.length]!));

/** All that an update may change, as bytes. */
async function bytesOf(run: PreparedRun, optimizer: Optimizer): Promise<string> {
  const parts: string[] = [];
  for (const { tensor } of run.parameters) parts.push(Buffer.from(await tensor.bytes()).toString("base64"));
  for (const entry of optimizer.stateEntries()) parts.push(Buffer.from(await entry.data()).toString("base64"));
  parts.push(Buffer.from(await rngState()).toString("base64"));
  return parts.join("\n");
}

/** How an update is made to fail; `place` is a share of the tensors that it allocates. */
type Injection =
  | { kind: "memory"; place: number }
  | { kind: "non-finite" | "stopped" | "thrown while computing" | "thrown before the step" };

const injection: fc.Arbitrary<Injection> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("memory"), place: fc.double({ min: 0, max: 1, noNaN: true }) }),
  },
  // the optimizer's own step comes last
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("memory"), place: fc.double({ min: 0.98, max: 1, noNaN: true }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("non-finite", "stopped", "thrown while computing", "thrown before the step"),
    }),
  },
);

class Thrown extends Error {}

/** Makes the update with a failure in it; false when the failure's turn did not come, and the update is made. */
async function failing(
  run: PreparedRun,
  optimizer: Optimizer,
  window: Sequence[][],
  how: Injection,
  allocations: number,
): Promise<boolean> {
  const fail = async (): Promise<never> => {
    throw new Thrown();
  };
  const hooks: UpdateHooks = {
    computed: how.kind === "thrown while computing" ? fail : async () => how.kind !== "stopped",
    beforeStep: how.kind === "thrown before the step" ? fail : HOOKS.beforeStep,
  };
  const options = how.kind === "non-finite" ? { ...OPTIONS, lossScale: Number.POSITIVE_INFINITY } : OPTIONS;
  await flush();
  if (how.kind === "memory") loadNative().failAllocation(1 + Math.floor(how.place * allocations));
  try {
    await makeUpdate(run, optimizer, window, options, hooks);
    return false;
  } catch (error) {
    if (how.kind.startsWith("thrown")) expect(error).toBeInstanceOf(Thrown);
    else expect(error).toMatchObject({ name: "UpdateFailure", kind: how.kind });
    if (error instanceof UpdateFailure && how.kind === "non-finite") expect(error.result!.loss).toBeDefined();
    return true;
  } finally {
    loadNative().failAllocation(0);
  }
}

/** How many tensors an update allocates, a little too few. */
function allocationsOf(args: TrainingArgumentsInput, lora: typeof TINY_LORA | undefined): Promise<number> {
  return withRun(args, lora, async (run, optimizer) => {
    let count = 1;
    while (await failing(run, optimizer, windowOf(run, 0), { kind: "memory", place: 1 }, count)) count *= 1.2;
    return count / 1.2;
  });
}

async function withRun<T>(
  args: TrainingArgumentsInput,
  lora: typeof TINY_LORA | undefined,
  work: (run: PreparedRun, optimizer: Optimizer) => Promise<T>,
): Promise<T> {
  const made = new TrainingArguments({ output_dir: newFolder(), use_cpu: true, ...args });
  const run = await prepareRun(tinyConfig("", {}, { lora }), made, { log: () => {} });
  const optimizer = createOptimizer(run.parameters, made, run.device);
  manualSeed(7);
  try {
    return await work(run, optimizer);
  } finally {
    optimizer.dispose();
    run.model.dispose();
  }
}

describe.each<[string, TrainingArgumentsInput, typeof TINY_LORA | undefined]>([
  ["LoRA with dropout, AdamW", {}, { ...TINY_LORA, lora_dropout: 0.2 }],
  [
    "LoRA, paged 8-bit AdamW, recomputation",
    { optim: "paged_adamw_8bit", optim_args: "page_budget=1MiB", gradient_checkpointing: true },
    TINY_LORA,
  ],
  ["all weights, Adafactor, NEFTune", { optim: "adafactor", neftune_noise_alpha: 5 }, undefined],
])("%s", (_, args, lora) => {
  it("fails at random places, and is the run that never failed", async () => {
    const expected = await withRun(args, lora, async (run, optimizer) => {
      for (let index = 0; index < UPDATES; index++) {
        await makeUpdate(run, optimizer, windowOf(run, index), OPTIONS, HOOKS);
      }
      return bytesOf(run, optimizer);
    });
    const allocations = await allocationsOf(args, lora);
    expect(allocations).toBeGreaterThan(100);
    const plans = fc.array(fc.array(injection, { maxLength: 3 }), { minLength: UPDATES, maxLength: UPDATES });
    await fc.assert(
      fc.asyncProperty(plans, (plan) =>
        withRun(args, lora, async (run, optimizer) => {
          for (const [index, failures] of plan.entries()) {
            const window = windowOf(run, index);
            let made = false;
            for (const how of failures) {
              const before = await bytesOf(run, optimizer);
              made = !(await failing(run, optimizer, window, how, allocations));
              if (made) break;
              expect(await bytesOf(run, optimizer), `${how.kind} at update ${index}`).toBe(before);
              expect(run.parameters.some(({ tensor }) => tensor.info.hasGrad)).toBe(false);
            }
            if (!made) await makeUpdate(run, optimizer, window, OPTIONS, HOOKS);
          }
          expect(await bytesOf(run, optimizer)).toBe(expected);
        }),
      ),
      { numRuns: 12 },
    );
  });
});
