/** Whole runs against transformers, PEFT and TRL: loss, gradient norm and learning rate at every update. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { LoraConfig, TrainingArgumentsInput } from "../src/index.js";
import { Trainer } from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { fixturePath, readGoldenJson } from "./support/goldens.js";

interface RunGolden {
  model: string;
  data: string;
  lora: LoraConfig | null;
  args: TrainingArgumentsInput;
  max_steps: number;
  log_history: Record<string, number>[];
}

const runs = [
  "snippet-lora",
  "snippet-lora-hot",
  "snippet-lora-fused",
  "snippet-lora-paged",
  "full-ft",
  "full-ft-tied",
  "max-steps-uneven",
  "max-steps-constant-warmup-ratio",
  "messages",
  "messages-assistant-only",
  "lora-dropout",
  "data-seed",
  "drop-last",
  "fractional-epochs",
  "no-clip",
  "logging-steps-4",
  "sequential",
  "lora-patterns",
];

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

describe("whole runs follow Python's", () => {
  it.each(runs)("%s", async (name) => {
    const golden = readGoldenJson<RunGolden>(`runs/${name}.json`);
    const output_dir = mkdtempSync(join(tmpdir(), "slimtune-run-"));
    folders.push(output_dir);
    await new Trainer({
      model: fixturePath(golden.model),
      dataset: fixturePath(`data/${golden.data}`),
      lora: golden.lora ?? undefined,
      training_args: { logging_steps: 1, save_strategy: "no", use_cpu: true, ...golden.args, output_dir },
      log: () => {},
    }).train();
    const state = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
    expect(state.max_steps).toBe(golden.max_steps);
    expect(state.log_history).toHaveLength(golden.log_history.length);
    for (const [index, expected] of golden.log_history.entries()) {
      const actual = state.log_history[index];
      for (const key of ["loss", "grad_norm", "learning_rate", "epoch", "step", "train_loss", "total_flos"]) {
        if (expected[key] === undefined) continue;
        const difference = Math.abs(actual[key] - expected[key]) / Math.max(Math.abs(expected[key]), 1e-12);
        expect(difference, `${key} of entry ${index}: ${actual[key]}, Python has ${expected[key]}`).toBeLessThan(1e-4);
      }
    }
  });
});
