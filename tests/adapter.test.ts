/** `adapter:` goes on with an existing PEFT adapter: its weights are where training starts. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { loadGenerator, Trainer, type TrainingArgumentsInput } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";

const folder = mkdtempSync(join(tmpdir(), "slimtune-adapter-"));
afterAll(() => rmSync(folder, { recursive: true }));

const model = fixturePath("tiny-llama");
const given = fixturePath("tiny-llama-adapter");

async function goOn(name: string, args: TrainingArgumentsInput): Promise<string> {
  const output_dir = join(folder, name);
  await new Trainer({
    model,
    adapter: given,
    dataset: fixturePath("data/prompt-completion.jsonl"),
    training_args: { output_dir, num_train_epochs: 2, logging_steps: 1, save_strategy: "no", ...args },
    log: () => {},
  }).train();
  return output_dir;
}

/** The tensors' bytes, by name. */
async function weights(path: string): Promise<Map<string, Buffer>> {
  const { tensors } = await readHeader(path);
  const bytes = readFileSync(path);
  return new Map([...tensors].map(([name, { begin, end }]) => [name, bytes.subarray(begin, end)]));
}

it("keeps the adapter as it is at a learning rate of 0, with its own ranks and scaling", async () => {
  const output = await goOn("still", { learning_rate: 0 });
  const before = await weights(join(given, "adapter_model.safetensors"));
  const after = await weights(join(output, "adapter_model.safetensors"));
  expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
  for (const [name, bytes] of before) expect(Buffer.compare(after.get(name)!, bytes), name).toBe(0);
  const config = JSON.parse(readFileSync(join(output, "adapter_config.json"), "utf8"));
  expect(config).toMatchObject({ r: 4, lora_alpha: 8, rank_pattern: { q_proj: 2 } });
  const answers: string[][] = [];
  for (const adapter of [given, output, undefined]) {
    const generator = await loadGenerator({ model, adapter });
    answers.push(await generator.complete(["Ada took", "Words"], { max_new_tokens: 12 }));
    generator.dispose();
  }
  expect(answers[1]).toEqual(answers[0]);
  expect(answers[2]).not.toEqual(answers[0]);
});

it("learns from where the adapter was", async () => {
  const output = await goOn("on", { learning_rate: 1e-2, lr_scheduler_type: "constant" });
  const { log_history } = JSON.parse(readFileSync(join(output, "trainer_state.json"), "utf8"));
  const still = JSON.parse(readFileSync(join(folder, "still", "trainer_state.json"), "utf8"));
  expect(log_history[0].loss).toBe(still.log_history[0].loss);
  expect(log_history.at(-2).loss).toBeLessThan(still.log_history.at(-2).loss);
});
