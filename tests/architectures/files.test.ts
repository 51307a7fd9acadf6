/** Every architecture's trained model is written as transformers has it, loads again, and a run that was cut goes on. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { Trainer, type TrainingArgumentsInput } from "../../src/index.js";
import { loadCausalLM } from "../../src/models/load.js";
import { flush, liveTensors } from "../../src/torch/index.js";
import { releaseKeptModels } from "../../src/train/keptModel.js";
import {
  configText,
  inputs,
  modelTypes,
  readVariant,
  sampled,
  variantNames,
  weightValues,
  writeVariant,
} from "../support/architectures.js";
import { fixturePath, readTensors } from "../support/goldens.js";
import { temporaryFolders } from "../support/temporary.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

/** Trains all weights of a model folder; gives the folder of the result. */
async function train(model: string, args: TrainingArgumentsInput, output_dir = newFolder()): Promise<string> {
  await new Trainer({
    model,
    dataset: fixturePath("data/text.jsonl"),
    training_args: {
      output_dir,
      use_cpu: true,
      bf16: false,
      per_device_train_batch_size: 2,
      learning_rate: 1e-2,
      lr_scheduler_type: "constant", // so that a shorter run is the start of a longer one
      weight_decay: 0.1,
      save_strategy: "no",
      seed: 42,
      ...args,
    },
    log: () => {},
  }).train();
  return output_dir;
}

const written = (folder: string) => readFileSync(join(folder, "model.safetensors"));

it.each(variantNames)("%s is written with transformers' names, shapes and config, and loads again", async (name) => {
  const variant = readVariant(name);
  const folder = await writeVariant(variant, newFolder(), { tokenizer: "tiny-llama" });
  const output = await train(folder, { max_steps: 1, learning_rate: 0 });

  const tensors = await readTensors(join(output, "model.safetensors"));
  const kept = variant.tensors.filter(({ role }) => role !== "ignored");
  expect([...tensors.keys()].sort()).toEqual(kept.map(({ name }) => name).sort());
  for (const tensor of kept) {
    const { shape, values } = tensors.get(tensor.name)!;
    expect(shape, tensor.name).toEqual(tensor.shape);
    expect(values, tensor.name).toEqual(weightValues(tensor));
  }
  const written = readFileSync(join(output, "config.json"), "utf8");
  expect(JSON.parse(written)).toEqual(variant.config);
  // transformers' classes refuse 3 where they want 3.0.
  for (const [number] of configText(name).matchAll(/: -?\d+\.\d+(?=[,\n])/g)) expect(written).toContain(number);

  const logits = [];
  for (const path of [folder, output]) {
    const model = await loadCausalLM(path);
    logits.push(await sampled(model, inputs.short, inputs.short_positions));
    model.dispose();
  }
  expect(logits[1]).toEqual(logits[0]);
});

describe("a run that was cut goes on to the same bytes", () => {
  // What resumes is the same for every variant of a type.
  const first = new Map(variantNames.map((name) => [modelTypes[name]!, name]).reverse() as [string, string][]);
  it.each([...first])("%s", async (_, name) => {
    const folder = await writeVariant(readVariant(name), newFolder(), { tokenizer: "tiny-llama" });
    const whole = await train(folder, { max_steps: 2 });
    const cut = await train(folder, { max_steps: 1, save_strategy: "steps", save_steps: 1 });
    expect(written(cut).equals(written(whole))).toBe(false);
    await train(folder, { max_steps: 2, save_strategy: "steps", save_steps: 1, resume_from_checkpoint: true }, cut);
    expect(written(cut).equals(written(whole))).toBe(true);
  });
});
