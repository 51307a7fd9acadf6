/** What load_best_model_at_end does when the best checkpoint is not there to be loaded. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Trainer, type TrainingArgumentsInput } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";

const DATA = fixturePath("data/prompt-completion.jsonl");
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-best-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Entropy rises and then falls, so that the best of `eval_entropy` is neither the first update nor the last. */
async function train(args: TrainingArgumentsInput, onSave?: (checkpoint: string) => void) {
  const lines: string[] = [];
  await new Trainer({
    model: fixturePath("tiny-llama"),
    dataset: DATA,
    eval_dataset: DATA,
    lora: { r: 8, lora_alpha: 16, target_modules: "all-linear" },
    callbacks: [{ onSave: (_args, _state, _control, { checkpoint }) => onSave?.(checkpoint) }],
    log: (line) => lines.push(line),
    training_args: {
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 4,
      learning_rate: 0.01,
      eval_strategy: "steps",
      eval_steps: 1,
      save_strategy: "steps",
      save_steps: 1,
      load_best_model_at_end: true,
      metric_for_best_model: "entropy",
      use_cpu: true,
      ...args,
      output_dir: folder,
    },
  }).train();
  const state = JSON.parse(readFileSync(join(folder, "trainer_state.json"), "utf8"));
  return { state, told: lines.join("\n"), weightsOf: (name: string) => readFileSync(join(folder, name, WEIGHTS)) };
}
const WEIGHTS = "adapter_model.safetensors";

it("ends with the best weights and says which", async () => {
  const { state, told, weightsOf } = await train({});
  expect(state.best_global_step).toBeGreaterThan(1);
  expect(state.best_global_step).toBeLessThan(9);
  expect(told).toContain(`Best: eval_entropy ${state.best_metric} at update ${state.best_global_step};`);
  expect(weightsOf(".").equals(weightsOf(`checkpoint-${state.best_global_step}`))).toBe(true);
  expect(weightsOf(".").equals(weightsOf("checkpoint-9"))).toBe(false);
});

it("ends with the last weights when the best checkpoint is damaged, and says so", async () => {
  let best = 0;
  const { state, told, weightsOf } = await train({}, (checkpoint) => {
    const name = checkpoint.split("-").at(-1);
    const { best_global_step } = JSON.parse(readFileSync(join(checkpoint, "trainer_state.json"), "utf8"));
    best = best_global_step;
    if (name === "9") appendFileSync(join(folder, `checkpoint-${best}`, WEIGHTS), "x");
  });
  expect(state.best_global_step).toBe(best);
  expect(told).toMatch(/load_best_model_at_end: .*checkpoint-\d+ is damaged: adapter_model.safetensors has \d+ bytes/);
  expect(weightsOf(".").equals(weightsOf("checkpoint-9"))).toBe(true);
});

it("says that nothing was evaluated when the delay is longer than the run", async () => {
  const { state, told } = await train({ eval_delay: 100, num_train_epochs: 1 });
  expect(state.best_metric).toBeNull();
  expect(told).toContain(
    "load_best_model_at_end: no checkpoint was saved at an evaluation. The result has the weights",
  );
});
