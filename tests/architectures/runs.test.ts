/** Six updates of every architecture follow SFTTrainer's: loss, gradient norm and learning rate. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { readHeader } from "../../src/files/safetensors.js";
import { type LoraConfig, Trainer, type TrainingArgumentsInput } from "../../src/index.js";
import { flush, liveTensors } from "../../src/torch/index.js";
import { releaseKeptModels } from "../../src/train/keptModel.js";
import { readVariant, writeVariant } from "../support/architectures.js";
import { fixturePath, readGoldenJson } from "../support/goldens.js";
import { temporaryFolders } from "../support/temporary.js";

interface Runs {
  data: string;
  lora: LoraConfig;
  args: TrainingArgumentsInput;
  runs: Record<string, { variant: string; config: Record<string, unknown>; log: [number, number, number][] }>;
}

const { data, lora, args, runs } = readGoldenJson<Runs>("architectures/runs.json");
const newFolder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

it.each(Object.keys(runs))("%s", async (name) => {
  const { variant, config, log } = runs[name]!;
  const output_dir = newFolder();
  await new Trainer({
    model: await writeVariant(readVariant(variant), newFolder(), { config, tokenizer: "tiny-llama" }),
    dataset: fixturePath(`data/${data}`),
    lora,
    training_args: { ...args, output_dir, use_cpu: true, bf16: false, logging_steps: 1, save_strategy: "no" },
    log: () => {},
  }).train();
  const { tensors } = await readHeader(join(output_dir, "adapter_model.safetensors"));
  const names = readVariant(variant).adapter.map(({ name }) => name);
  expect([...tensors.keys()].sort()).toEqual(names.sort()); // as PEFT calls them

  const { log_history } = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  const entries = (log_history as Record<string, number>[]).filter(({ loss }) => loss !== undefined);
  expect(entries).toHaveLength(log.length);
  for (const [i, expected] of log.entries()) {
    for (const [k, key] of ["loss", "grad_norm", "learning_rate"].entries()) {
      const value = entries[i]![key]!;
      const difference = Math.abs(value - expected[k]!) / Math.max(Math.abs(expected[k]!), 1e-12);
      expect(difference, `${key} of update ${i + 1}: ${value}, Python has ${expected[k]}`).toBeLessThan(1e-4);
    }
  }
});
