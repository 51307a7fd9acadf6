/** How an update's batch is cut into micro-batches changes nothing. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { TINY_LORA, tinyTrainer } from "../../tests/support/tinyRun.js";
import { flush, liveTensors } from "../torch/index.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

interface Update {
  loss: number;
  grad_norm: number;
}

/** Three updates on 8 rows each, of unequal lengths and label counts; the third has the 5 rows that are left. */
async function updates(lora: typeof TINY_LORA | undefined, batch: number, accumulation: number): Promise<Update[]> {
  const output_dir = newFolder();
  const args = {
    per_device_train_batch_size: batch,
    gradient_accumulation_steps: accumulation,
    max_steps: 3,
    learning_rate: 1e-3,
    max_grad_norm: 0.3,
    train_sampling_strategy: "sequential",
  } as const;
  await tinyTrainer(output_dir, args, { lora }).train();
  const { log_history } = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  return log_history.slice(0, 3);
}

const relative = (actual: number, expected: number) => Math.abs(actual - expected) / expected;

describe.each([
  ["LoRA", TINY_LORA],
  ["full fine-tuning", undefined],
])("%s", (_, lora) => {
  it("gives the same loss and gradient norm for k micro-batches of b as for one batch of k·b", async () => {
    const whole = await updates(lora, 8, 1);
    expect(whole.every(({ loss, grad_norm }) => loss > 1 && grad_norm > 0)).toBe(true);
    for (const [batch, accumulation] of [
      [4, 2],
      [2, 4],
      [1, 8],
    ] as const) {
      for (const [index, { loss, grad_norm }] of (await updates(lora, batch, accumulation)).entries()) {
        expect(relative(loss, whole[index]!.loss), `loss ${index} of ${accumulation} × ${batch}`).toBeLessThan(1e-5);
        expect(
          relative(grad_norm, whole[index]!.grad_norm),
          `norm ${index} of ${accumulation} × ${batch}`,
        ).toBeLessThan(1e-5);
      }
    }
  });
});
