/** bf16: storage alone changes nothing but the weights' rounding; bf16 arithmetic stays in a band around float32. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Trainer } from "../src/index.js";
import { collate } from "../src/models/batch.js";
import { loadCausalLM } from "../src/models/load.js";
import type { Precision } from "../src/models/precision.js";
import { gradOf, manualSeed, scope, setRequiresGrad } from "../src/torch/index.js";
import { fixturePath, readGoldenJson, worstDifference } from "./support/goldens.js";
import { addLora } from "./support/lora.js";

const ids = Int32Array.from({ length: 40 }, (_, i) => (i * 31) % 384);
const batch = collate([{ inputIds: ids, labels: ids }]);

/** Loss and the gradient of one adapter weight. */
async function lossAndGradient(precision: Precision): Promise<{ loss: number; gradient: ArrayLike<number | bigint> }> {
  const model = await loadCausalLM(fixturePath("tiny-llama-bf16"), { precision });
  manualSeed(1);
  addLora(model, { r: 4, target_modules: "all-linear" });
  for (const { lora } of model.linears.values()) {
    if (lora) for (const weight of [lora.a, lora.b]) setRequiresGrad(weight, true);
  }
  const loss = model.lossAndGradients(batch, batch.targets.length);
  const gradient = scope(() => gradOf(model.linears.get("model.layers.0.self_attn.q_proj")!.lora!.b));
  const result = { loss: await loss.item(), gradient: await gradient.values() };
  loss.dispose();
  gradient.dispose();
  model.dispose();
  return result;
}

it("weights stored in bf16 with float32 arithmetic give what the same weights give in float32", async () => {
  const expected = await lossAndGradient({ frozen: "as stored", compute: "float32" });
  const stored = await lossAndGradient({ frozen: "bfloat16", compute: "float32" });
  expect(stored.loss).toBeCloseTo(expected.loss, 5);
  expect(worstDifference(stored.gradient, Array.from(expected.gradient, Number))).toBeLessThan(1e-5);
});

it("bf16 arithmetic stays within 2 % of float32 in the loss", async () => {
  const expected = await lossAndGradient({ frozen: "as stored", compute: "float32" });
  const computed = await lossAndGradient({ frozen: "bfloat16", compute: "bfloat16" });
  expect(Math.abs(computed.loss / expected.loss - 1)).toBeLessThan(0.02);
  expect(computed.loss).not.toBe(expected.loss);
});

it("a whole run with bf16 stays within 3 % of Python's float32 curve, as Python's own autocast does", async () => {
  const golden = readGoldenJson<{ log_history: { loss?: number }[] }>("runs/snippet-lora-hot.json");
  const autocast = readGoldenJson<{ log_history: { loss?: number }[]; args: Record<string, unknown> }>(
    "runs/snippet-lora-bf16-autocast.json",
  );
  const output_dir = mkdtempSync(join(tmpdir(), "slimtune-bf16-"));
  await new Trainer({
    model: fixturePath("tiny-llama"),
    dataset: fixturePath("data/prompt-completion.jsonl"),
    lora: { r: 8, lora_alpha: 16, target_modules: "all-linear" },
    training_args: { ...autocast.args, output_dir, logging_steps: 1, save_strategy: "no" },
    log: () => {},
  }).train();
  const { log_history: actual } = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  rmSync(output_dir, { recursive: true });
  for (const [index, { loss }] of golden.log_history.entries()) {
    if (loss === undefined) continue;
    expect(Math.abs(autocast.log_history[index]!.loss! / loss - 1)).toBeLessThan(0.03);
    expect(Math.abs(actual[index].loss / loss - 1), `update ${index + 1}`).toBeLessThan(0.03);
  }
});
