/** A paged optimizer under a budget too small for its states ends with the bytes of the unpaged run, resumed or not. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { Trainer, type TrainingArgumentsInput } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";

const folder = mkdtempSync(join(tmpdir(), "slimtune-paging-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Full fine-tuning: 1.2 MiB of states against a budget of 1 MiB. */
async function train(name: string, args: TrainingArgumentsInput): Promise<{ weights: Buffer; lines: string[] }> {
  const output_dir = join(folder, name);
  const lines: string[] = [];
  await new Trainer({
    model: fixturePath("tiny-llama"),
    dataset: fixturePath("data/text.jsonl"),
    training_args: {
      output_dir,
      per_device_train_batch_size: 4,
      num_train_epochs: 2,
      learning_rate: 1e-3,
      save_strategy: "steps",
      save_steps: 4,
      ...args,
    },
    log: (line) => lines.push(line),
  }).train();
  expect(readdirSync(output_dir).filter((file) => file.startsWith(".optimizer-pages"))).toEqual([]);
  return { weights: readFileSync(join(output_dir, "model.safetensors")), lines };
}

it("pages, reports it, and changes nothing", async () => {
  const plain = await train("plain", { optim: "adamw_torch" });
  const paged: TrainingArgumentsInput = { optim: "paged_adamw_32bit", optim_args: "page_budget=1MiB" };
  const whole = await train("paged", paged);
  expect(Buffer.compare(whole.weights, plain.weights)).toBe(0);
  expect(whole.lines.join("\n")).toMatch(
    /paged_adamw_32bit, .*; \d+ pages of states.* [1-9]\d* come and go in every update/,
  );
  expect(whole.lines.join("\n")).toMatch(/pages stayed in memory; \d+\.\d MiB were moved out, which took/);

  rmSync(join(folder, "paged", "model.safetensors"));
  const checkpoint = join(folder, "paged", "checkpoint-4");
  const resumed = await train("paged", { ...paged, resume_from_checkpoint: checkpoint });
  expect(Buffer.compare(resumed.weights, plain.weights)).toBe(0);
  expect(resumed.lines.join("\n")).toMatch(/MiB were moved out/);
});
