/** On a machine with a GPU: runs there have the losses of runs on the CPU. Elsewhere there is nothing to test. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { TrainerConfig, TrainingArgumentsInput } from "../../src/index.js";
import { chooseDevice } from "../../src/torch/index.js";
import { temporaryFolders } from "../support/temporary.js";
import { TINY_LORA, tinyTrainer } from "../support/tinyRun.js";

const newFolder = temporaryFolders();

async function losses(args: TrainingArgumentsInput, more: Partial<TrainerConfig>): Promise<number[]> {
  const output_dir = newFolder();
  await tinyTrainer(output_dir, { max_steps: 5, ...args }, more).train();
  const { log_history } = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  return log_history.flatMap((entry: Record<string, number>) => entry.loss ?? []);
}

const all = { lora: undefined };
const nf4 = { load_in_4bit: true, bnb_4bit_quant_type: "nf4", bnb_4bit_use_double_quant: true } as const;
const cases: Record<string, [TrainingArgumentsInput, Partial<TrainerConfig>, number]> = {
  "an adapter": [{}, { lora: TINY_LORA }, 1e-4],
  "an adapter, bf16": [{ bf16: true }, { lora: TINY_LORA }, 2e-2],
  "an adapter on 4-bit weights": [{}, { lora: TINY_LORA, quantization: nf4 }, 1e-4],
  "an adapter on 8-bit weights": [{}, { lora: TINY_LORA, quantization: { load_in_8bit: true } }, 1e-4],
  "all weights, adamw_8bit": [{ optim: "adamw_8bit" }, all, 1e-2],
  "all weights, lion_32bit": [{ optim: "lion_32bit", learning_rate: 1e-4 }, all, 1e-3],
  "all weights, adafactor": [{ optim: "adafactor" }, all, 1e-3],
  "all weights, rmsprop": [{ optim: "rmsprop", learning_rate: 1e-3 }, all, 1e-3],
  "all weights, paged": [{ optim: "paged_adamw_32bit" }, all, 1e-3],
  "all weights, paged, with a budget": [{ optim: "paged_adamw_32bit", optim_args: "page_budget=1MiB" }, all, 1e-3],
};

/** SLIMTUNE_TEST_GPU=1: this machine is said to have a GPU, and a run without its tests is a failure. */
it.runIf(process.env.SLIMTUNE_TEST_GPU === "1")("there is a GPU to test", () => {
  expect(() => chooseDevice(false, "cuda")).not.toThrow();
});

describe.skipIf(chooseDevice(false) === "cpu")("a run on a GPU has the CPU's losses", () => {
  it.each(Object.keys(cases))("%s", async (name) => {
    const [args, more, tolerance] = cases[name]!;
    const expected = await losses({ ...args, use_cpu: true }, more);
    const actual = await losses({ ...args, use_cpu: false }, more);
    expect(actual).toHaveLength(5);
    for (const [i, loss] of actual.entries()) expect(Math.abs(loss / expected[i]! - 1)).toBeLessThan(tolerance);
  });
});
