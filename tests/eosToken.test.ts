/** A model that learned to end its answers with another token says so in its files, and generation ends there. */
import { cpSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { loadGenerator } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyTrainer } from "./support/tinyRun.js";

const folder = temporaryFolders();
const OTHER = "<|endoftext|>";
const read = (path: string) => JSON.parse(readFileSync(path, "utf8"));

it.each([
  ["an adapter", TINY_LORA],
  ["a whole model", undefined],
])("%s", async (_, lora) => {
  const output_dir = folder();
  const args = { eos_token: OTHER, num_train_epochs: 40, learning_rate: 2e-2, per_device_train_batch_size: 8 } as const;
  await tinyTrainer(output_dir, args, { lora }).train();
  const { id } = read(join(output_dir, "tokenizer.json")).added_tokens.find(
    ({ content }: { content: string }) => content === OTHER,
  );
  expect(read(join(output_dir, "tokenizer_config.json")).eos_token).toBe(OTHER);
  if (!lora) {
    expect(read(join(output_dir, "config.json")).eos_token_id).toBe(id);
    expect(read(join(output_dir, "generation_config.json"))).toMatchObject({ eos_token_id: [id, 2], bos_token_id: 1 });
  }
  const model = lora ? fixturePath("tiny-llama") : output_dir;
  const generator = await loadGenerator({ model, adapter: lora && output_dir, use_cpu: true });
  const { prompt } = JSON.parse(readFileSync(fixturePath("data/prompt-completion.jsonl"), "utf8").split("\n")[0]!);
  const [answer] = await generator.complete([prompt], { max_new_tokens: 200 });
  generator.dispose();
  expect(answer!.length, answer).toBeLessThan(150);
});

it("a model folder without a generation config gets one", async () => {
  const [model, output_dir] = [folder(), folder()];
  cpSync(fixturePath("tiny-llama"), model, { recursive: true });
  rmSync(join(model, "generation_config.json"));
  await tinyTrainer(output_dir, { eos_token: OTHER, max_steps: 1 }, { model, lora: undefined }).train();
  expect(read(join(output_dir, "generation_config.json")).eos_token_id).toHaveLength(1);
});
