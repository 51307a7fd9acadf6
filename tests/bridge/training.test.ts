/** While it trains: nothing leaks from step to step, and the event loop stays alive. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { type LoraConfig, Trainer, type TrainerCallback } from "../../src/index.js";
import { flush, liveTensors } from "../../src/torch/index.js";
import { fixturePath } from "../support/goldens.js";

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

async function train(lora: LoraConfig | undefined, callback: TrainerCallback): Promise<void> {
  const output_dir = mkdtempSync(join(tmpdir(), "slimtune-training-"));
  folders.push(output_dir);
  using trainer = new Trainer({
    model: fixturePath("tiny-llama"),
    dataset: fixturePath("data/prompt-completion.jsonl"),
    lora,
    training_args: {
      output_dir,
      max_steps: 50,
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 2,
      save_steps: 20,
      use_cpu: true,
    },
    callbacks: [callback],
    log: () => {},
  });
  await trainer.train();
}

describe.each<[string, LoraConfig | undefined]>([
  ["LoRA with dropout", { r: 4, target_modules: "all-linear", lora_dropout: 0.1 }],
  ["full fine-tuning", undefined],
])("50 steps of %s", (_, lora) => {
  it("keep the live-tensor count flat", async () => {
    const counts: number[] = [];
    await train(lora, {
      onStepEnd: (() => counts.push(liveTensors())) as () => never, // a number: no control, and nothing is made of it
    });
    expect(counts).toHaveLength(50);
    expect(new Set(counts).size, `counts ${counts}`).toBe(1);
    expect(counts[0]).toBeGreaterThan(20);
  });

  it("let timers run between the steps", async () => {
    let ticks = 0;
    const byStep: number[] = [];
    const timer = setInterval(() => ticks++, 1);
    await train(lora, {
      onStepEnd: () => {
        byStep.push(ticks);
      },
    });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(25);
    expect(new Set(byStep).size, `ticks by step ${byStep}`).toBeGreaterThan(25); // all along, not only at the end
  });
});
