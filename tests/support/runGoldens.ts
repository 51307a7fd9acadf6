/** Whole runs of Python's, and the same runs here. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { type LoraConfig, type QuantizationConfig, Trainer, type TrainingArgumentsInput } from "../../src/index.js";
import { fixturePath, readGoldenJson } from "./goldens.js";

export interface RunGolden {
  model: string;
  data: string;
  lora: LoraConfig | null;
  quantization?: QuantizationConfig;
  args: TrainingArgumentsInput;
  max_steps: number;
  log_history: Record<string, number>[];
}

export const readRunGolden = (name: string) => readGoldenJson<RunGolden>(`runs/${name}.json`);

/**
 * Trains as the golden was trained; returns what `trainer_state.json` holds.
 * @param model where the golden's model lies
 */
export async function trainAs(
  golden: RunGolden,
  output_dir: string,
  more: TrainingArgumentsInput = {},
  model = fixturePath(golden.model),
) {
  using trainer = new Trainer({
    model,
    dataset: fixturePath(`data/${golden.data}`),
    lora: golden.lora ?? undefined,
    quantization: golden.quantization,
    training_args: { logging_steps: 1, save_strategy: "no", use_cpu: true, ...golden.args, ...more, output_dir },
    log: () => {},
  });
  await trainer.train();
  return JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
}

const compared = ["loss", "grad_norm", "learning_rate", "epoch", "step", "train_loss", "total_flos"];

/** Every figure of every log entry within 1e-4 relative. */
export function expectSameCurve(
  state: { max_steps: number; log_history: Record<string, number>[] },
  golden: RunGolden,
): void {
  expect(state.max_steps).toBe(golden.max_steps);
  expect(state.log_history).toHaveLength(golden.log_history.length);
  for (const [index, expected] of golden.log_history.entries()) {
    const actual = state.log_history[index]!;
    for (const key of compared) {
      if (expected[key] === undefined) continue;
      const difference = Math.abs(actual[key]! - expected[key]) / Math.max(Math.abs(expected[key]), 1e-12);
      expect(difference, `${key} of entry ${index}: ${actual[key]}, Python has ${expected[key]}`).toBeLessThan(1e-4);
    }
  }
}
