/** How an update's batch is cut into micro-batches, and these into passes, changes nothing. */
import { afterEach, describe, expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { TINY_LORA, tinyConfig } from "../../tests/support/tinyRun.js";
import { TrainingArguments } from "../arguments/index.js";
import type { Sequence } from "../models/batch.js";
import { clearGrad, flush, gradOf, liveTensors } from "../torch/index.js";
import { accumulate, type StepResult } from "./accumulate.js";
import { passesOf } from "./passes.js";
import { type PreparedRun, prepareRun } from "./prepare.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

interface Accumulated extends StepResult {
  gradients: Float32Array[];
}

async function gradientsOf(run: PreparedRun, window: Sequence[][], passTokens: number): Promise<Accumulated> {
  const result = await accumulate({ ...run, passTokens }, window, 1);
  const gradients: Float32Array[] = [];
  for (const { tensor } of run.parameters) {
    const gradient = gradOf(tensor);
    gradients.push((await gradient.values()) as Float32Array);
    gradient.dispose();
    clearGrad(tensor);
  }
  return { ...result, gradients };
}

const relative = (actual: number, expected: number) => Math.abs(actual - expected) / expected;

/** ‖a - b‖ / ‖b‖ over all gradients. */
function distance(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  let [apart, size] = [0, 0];
  for (const [i, values] of b.entries()) {
    for (const [j, value] of values.entries()) {
      apart += (a[i]![j]! - value) ** 2;
      size += value ** 2;
    }
  }
  return Math.sqrt(apart / size);
}

describe.each([
  ["LoRA", TINY_LORA],
  ["full fine-tuning", undefined],
])("%s", (_, lora) => {
  it("gives the same loss and gradients for k micro-batches of b, in k passes or in fewer, as for one of k·b", async () => {
    const args = new TrainingArguments({ output_dir: newFolder(), use_cpu: true });
    const run = await prepareRun(tinyConfig("", {}, { lora }), args, { log: () => {} });
    try {
      for (const rows of [run.examples.slice(0, 8), run.examples.slice(8, 16), run.examples.slice(16, 21)]) {
        const whole = await gradientsOf(run, [rows], 0);
        expect(whole.loss).toBeGreaterThan(1);
        for (const size of [4, 2, 1]) {
          const window = Array.from({ length: Math.ceil(rows.length / size) }, (_, k) =>
            rows.slice(k * size, (k + 1) * size),
          );
          for (const passTokens of [0, 100, 512]) {
            const passes = passesOf(window, passTokens).length;
            if (passTokens === 0) expect(passes, "each by itself").toBe(window.length);
            const cut = await gradientsOf(run, window, passTokens);
            const what = `${window.length} × ${size} in ${passes} passes`;
            expect(relative(cut.loss, whole.loss), what).toBeLessThan(1e-5);
            expect(relative(cut.gradNorm, whole.gradNorm), what).toBeLessThan(1e-5);
            expect(distance(cut.gradients, whole.gradients), what).toBeLessThan(1e-5);
            expect(cut.tokens).toBe(whole.tokens);
          }
        }
      }
    } finally {
      run.model.dispose();
    }
  });
});
