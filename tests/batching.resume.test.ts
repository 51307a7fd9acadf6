/** Resuming from every checkpoint ends with the same bytes, whatever the order and the noise. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { TrainingArgumentsInput } from "../src/index.js";
import { Trainer } from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-resume-"));
  folders.push(folder);
  return folder;
}

async function train(output_dir: string, args: TrainingArgumentsInput) {
  await new Trainer({
    model: fixturePath("tiny-llama"),
    dataset: fixturePath("data/prompt-completion.jsonl"),
    lora: { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: "all-linear" },
    training_args: {
      use_cpu: true,
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 2,
      num_train_epochs: 2,
      learning_rate: 1e-2,
      logging_steps: 1,
      save_steps: 1,
      ...args,
      output_dir,
    },
    log: () => {},
  }).train();
  const state = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  const losses = state.log_history.map((entry: Record<string, number>) => [entry.step, entry.loss, entry.grad_norm]);
  return {
    weights: readFileSync(join(output_dir, "adapter_model.safetensors")),
    losses,
    tokens: state.num_input_tokens_seen,
  };
}

describe("a resumed run is the uninterrupted one, to the bit", () => {
  it.each<[string, TrainingArgumentsInput]>([
    ["group_by_length", { train_sampling_strategy: "group_by_length", include_num_input_tokens_seen: "all" }],
    ["packing", { packing: true, max_length: 64, packing_strategy: "bfd_split", shuffle_dataset: true }],
    ["neftune and threads", { neftune_noise_alpha: 5, label_smoothing_factor: 0.1, dataset_num_proc: 2 }],
  ])("%s", async (_, args) => {
    const whole = newFolder();
    const expected = await train(whole, args);
    const steps = readdirSync(whole).filter((name) => name.startsWith("checkpoint-")).length;
    expect(steps).toBeGreaterThan(6);
    // In the first epoch, at its end, and in the middle of the second.
    for (const step of [1, steps / 2, steps / 2 + 1, steps - 1]) {
      const resumed = newFolder();
      cpSync(join(whole, `checkpoint-${step}`), join(resumed, `checkpoint-${step}`), { recursive: true });
      const actual = await train(resumed, { ...args, resume_from_checkpoint: true });
      expect(actual.losses, `from ${step}`).toEqual(expected.losses);
      expect(actual.weights.equals(expected.weights), `weights from ${step}`).toBe(true);
      expect(actual.tokens).toBe(expected.tokens);
    }
  });
});
