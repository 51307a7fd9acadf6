/** Whole runs with adapters of every kind against transformers, PEFT and TRL, and their way through a checkpoint. */
import { cpSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { loadGenerator, mergeAdapter } from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath, goldenPath, readTensors, worstDifference } from "./support/goldens.js";
import { expectSameCurve, type RunGolden, readRunGolden, trainAs } from "./support/runGoldens.js";
import { temporaryFolders } from "./support/temporary.js";

const runs = readdirSync(goldenPath("runs")).flatMap((file) => /^(adapter-.*)\.json$/.exec(file)?.[1] ?? []);

const newFolder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

type Final = RunGolden & { final: Record<string, { sum: number; norm: number }> };

const weightsOf = (folder: string) => readTensors(join(folder, "adapter_model.safetensors"));

/** A parameter's name in Python as PEFT has it in the file. */
const inFile = (name: string) =>
  name.replace(/\.(modules_to_save|default)\b/g, "").replace(/(lora_magnitude_vector)\.weight$/, "$1");

/** The golden's model, with the tokenizer that all of them share. */
function modelOf({ model }: RunGolden): string {
  const folder = newFolder();
  for (const name of ["config.json", "model.safetensors"]) cpSync(join(fixturePath(model), name), join(folder, name));
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
    cpSync(join(fixturePath("tiny-llama"), name), join(folder, name));
  }
  return folder;
}

describe.each(runs)("%s", (name) => {
  it("follows Python's run, and saves the weights that Python has at its end", async () => {
    const golden = readRunGolden(name) as Final;
    const folder = newFolder();
    expectSameCurve(await trainAs(golden, folder, {}, modelOf(golden)), golden);
    const saved = await weightsOf(folder);
    const lessened = /pissa|olora/.test(name); // saved as plain LoRA of twice the rank
    for (const [key, { norm }] of Object.entries(golden.final)) {
      const found = saved.get(inFile(key));
      expect(found, `${key} of ${[...saved.keys()]}`).toBeDefined();
      if (lessened) continue;
      const actual = Math.hypot(...(found!.values as Float32Array));
      expect(Math.abs(actual - norm), key).toBeLessThan(2e-4 * Math.max(1, norm));
    }
  });

  it("goes on from a checkpoint as if it had never stopped, and merges to the same model", async () => {
    const golden = readRunGolden(name);
    const [model, whole, parts] = [modelOf(golden), newFolder(), newFolder()];
    await trainAs(golden, whole, { num_train_epochs: 1, max_steps: 4 }, model);
    const saving = { num_train_epochs: 1, max_steps: 4, save_strategy: "steps" as const, save_steps: 2 };
    await trainAs(golden, parts, saving, model);
    const resumed = newFolder();
    await trainAs(golden, resumed, { ...saving, resume_from_checkpoint: join(parts, "checkpoint-2") }, model);
    const [expected, actual] = [await weightsOf(whole), await weightsOf(resumed)];
    expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [key, { values }] of expected) {
      expect(worstDifference(actual.get(key)!.values as Float32Array, values as Float32Array), key).toBe(0);
    }

    const config = JSON.parse(readFileSync(join(whole, "adapter_config.json"), "utf8"));
    expect(config.base_model_name_or_path).toBe(model);
    const merged = join(newFolder(), "merged");
    await mergeAdapter({ adapter: whole, out: merged });
    const answers: string[][] = [];
    for (const source of [{ model, adapter: whole }, { model: merged }]) {
      const generator = await loadGenerator(source);
      answers.push(await generator.complete(["Ada took", "Words"], { max_new_tokens: 12 }));
      generator.dispose();
    }
    expect(answers[1]).toEqual(answers[0]);
  });
});
