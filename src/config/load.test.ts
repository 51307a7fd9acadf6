import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { loadConfig } from "./load.js";
import { parseCommandLine } from "./overrides.js";

let folder: string;
let file: string;
const here = process.cwd();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-config-"));
  file = join(folder, "config.yaml");
  mkdirSync(join(folder, "model"));
  mkdirSync(join(folder, "elsewhere", "model"), { recursive: true });
  writeFileSync(join(folder, "train.jsonl"), "{}\n");
});

afterAll(() => {
  process.chdir(here);
  rmSync(folder, { recursive: true, force: true });
});

/** Loads this text as a config, with these words behind it on the command line. */
function load(text: string, ...words: string[]) {
  writeFileSync(file, text);
  return loadConfig(file, parseCommandLine([file, ...words]).overrides);
}

const BASE = "model: model\ndataset: train.jsonl\n";

describe("loadConfig", () => {
  it("reads the reference snippet", async () => {
    const config = await load(`${BASE}lora: {r: 16, lora_alpha: 32, lora_dropout: 0.0, target_modules: all-linear}
training_args:
  output_dir: ./slm-finetuned-model
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 8
  num_train_epochs: 3
  optim: paged_adamw_32bit
  bf16: true
  logging_steps: 10
  save_strategy: epoch
  learning_rate: 2.0e-4
  max_grad_norm: 0.3
`);
    expect(config.model).toBe(join(folder, "model"));
    expect(config.dataset).toBe(join(folder, "train.jsonl"));
    expect(config.lora).toMatchObject({ r: 16, lora_alpha: 32, lora_dropout: 0, target_modules: "all-linear" });
    expect(config.training_args).toMatchObject({
      output_dir: "./slm-finetuned-model",
      learning_rate: 2e-4,
      max_grad_norm: 0.3,
      optim: "paged_adamw_32bit",
      bf16: true,
    });
    expect(Object.keys(config).toSorted()).toEqual(["dataset", "lora", "model", "training_args"]);
  });

  it("needs no training_args, and takes a key with nothing behind it as absent", async () => {
    const config = await load(`${BASE}adapter:\ntraining_args:\n`);
    expect(config.adapter).toBeUndefined();
    expect(config.lora).toBeUndefined();
    expect(config.training_args.nonDefault()).toEqual({});
  });

  it("reads numbers with an exponent", async () => {
    expect((await load(`${BASE}training_args: {learning_rate: 2e-4}`)).training_args.learning_rate).toBe(2e-4);
  });

  it("reads JSON, too", async () => {
    const text = JSON.stringify({ model: "model", dataset: "train.jsonl", training_args: { max_steps: 3 } });
    expect((await load(text)).training_args.max_steps).toBe(3);
  });

  it("sees paths in the file from the file's folder, those on the command line from the current folder", async () => {
    process.chdir(join(folder, "elsewhere"));
    expect((await load(BASE)).model).toBe(join(folder, "model"));
    expect((await load(BASE, "--model", "model")).model).toBe(join(process.cwd(), "model"));
    process.chdir(here);
  });

  it("leaves hub ids alone", async () => {
    const config = await load("model: org/some-model\nadapter: org/adapter\ndataset: openai/gsm8k\n");
    expect(config).toMatchObject({ model: "org/some-model", adapter: "org/adapter", dataset: "openai/gsm8k" });
  });

  it("resolves paths within mappings, lists and globs", async () => {
    const config = await load(`model: model
dataset:
  - train.jsonl
  - {path: "*.jsonl", columns: {prompt: question, completion: answer}}
eval_dataset: {path: train.jsonl}
`);
    expect(config.dataset).toMatchObject([
      join(folder, "train.jsonl"),
      { path: join(folder, "*.jsonl"), columns: { prompt: "question", completion: "answer" } },
    ]);
    expect(config.eval_dataset).toMatchObject({ path: join(folder, "train.jsonl") });
  });

  it("finds the files of evaluation sets by name, and passes $schema over", async () => {
    const config = await load(`$schema: x.json\n${BASE}eval_dataset: {a: train.jsonl, b: {path: train.jsonl}}\n`);
    const path = join(folder, "train.jsonl");
    expect(config.eval_dataset).toMatchObject({ a: path, b: { path } });
    expect(config).not.toHaveProperty("$schema");
  });

  it("lays the command line over the file", async () => {
    const config = await load(
      `${BASE}lora: {r: 8, lora_alpha: 16}\ntraining_args: {max_steps: 5, learning_rate: 1e-3}\n`,
      "--lora.r=16",
      "--learning-rate",
      "5e-5",
      "--bf16",
    );
    expect(config.lora).toMatchObject({ r: 16, lora_alpha: 16 });
    expect(config.training_args.nonDefault()).toEqual({ max_steps: 5, bf16: true });
  });
});

describe("without a file", () => {
  const words = (...more: string[]) => parseCommandLine(["--model", "org/m", "--dataset", "org/d", ...more]).overrides;

  it("the options are the config", async () => {
    const config = await loadConfig(undefined, words("--lora.r", "4", "--max_steps", "3"));
    expect(config).toMatchObject({ model: "org/m", dataset: "org/d", lora: { r: 4 }, training_args: { max_steps: 3 } });
  });

  it("names what is missing and what is wrong by the options", async () => {
    const { overrides } = parseCommandLine(["--model", "org/m"]);
    await expect(loadConfig(undefined, overrides)).rejects.toThrow(/^--dataset: is required: the path of the examples/);
    const wrong = parseCommandLine(["--dataset", "d", "--max_steps", "x"]).overrides;
    await expect(loadConfig(undefined, wrong)).rejects.toThrow(
      /^--model: is required.*\n--max_steps: expected a whole/s,
    );
  });
});

describe("a section on the command line", () => {
  it.each([["null"], ["false"]])("--lora %s is without it", async (word) => {
    const config = await load(`${BASE}lora: {r: 8}\nearly_stopping: {}\n`, "--lora", word, "--early_stopping", word);
    expect(config.lora).toBeUndefined();
    expect(config.early_stopping).toBeUndefined();
  });

  it("--lora true is with its defaults, or those of the file", async () => {
    expect((await load(BASE, "--lora", "true")).lora).toMatchObject({ r: 8 });
    expect((await load(`${BASE}lora: {r: 3}\n`, "--lora")).lora).toMatchObject({ r: 3 });
  });

  it("takes a switch without a word behind it", async () => {
    expect((await load(`${BASE}lora: {r: 3}\n`, "--lora.use_rslora")).lora).toMatchObject({ r: 3, use_rslora: true });
  });
});

describe("keys of other programs", () => {
  it("are taken with a note, and a problem has the name and line that the file has", async () => {
    const notes: string[] = [];
    writeFileSync(file, "base_model: model\ndataset: train.jsonl\nlearning_rate: 1e-3\n");
    const config = await loadConfig(file, [], (line) => notes.push(line));
    expect(config).toMatchObject({ model: join(folder, "model"), training_args: { learning_rate: 1e-3 } });
    expect(notes).toEqual([
      "base_model is another program's name: taken as model",
      "Taken as training_args: learning_rate",
    ]);
    await expect(load("dataset: train.jsonl\n\nbase_model: ./nope\n")).rejects.toThrow(
      /:3: base_model: no such folder/,
    );
    await expect(load(`${BASE}num_epochs: many\n`)).rejects.toThrow(/:3: num_epochs: expected a number/);
  });

  it("overwrite_output_dir is known where transformers 4 had it", async () => {
    expect(await load(`${BASE}training_args: {overwrite_output_dir: true}\n`)).toMatchObject({
      overwrite_output_dir: true,
    });
    expect((await load(BASE, "--overwrite_output_dir")).overwrite_output_dir).toBe(true);
  });
});

const keys = (count: number) => Array.from({ length: count }, (_, i) => `k${i}: 1`);

describe("a bad config", () => {
  it.each<[string, RegExp]>([
    ["", /:1: model: is required.*\n.*dataset: is required/s],
    ["- a\n", /:1: expected keys such as/],
    ["model: [\n", /:\d: not valid YAML/],
    ["model: a\nmodel: b\n", /:2: not valid YAML: Map keys must be unique, but "model" is there twice/],
    ["model: a\nlora:\n  r: 1\n  r: 2\n", /:4: not valid YAML: Map keys must be unique, but "r" is there twice/],
    [`a: {${keys(50_000).join(", ")}}\n`, /:1: not valid YAML: a mapping has 50000 keys; the limit is 10000/],
    [`${keys(50).join("\n")}\n`, /:18: k17: unknown key.*\nand 32 more$/s],
    [`model: ${"x".repeat(1_000_000)}\n`, /config\.yaml has 1\.0 MB; such a file may have 1\.0 MB/],
    ["model: &a [*a]\n", /not valid YAML/],
    ["model: 3\ndataset: train.jsonl\n", /:1: model: expected the path of a model folder/],
    [`${BASE}modle: x\n`, /:3: modle: unknown key \(did you mean "model"\?\)/],
    [`${BASE}training_args:\n  max_steps: 1\n  lora: {r: 8}\n`, /:5: training_args.lora: belongs at the top level/],
    [
      `${BASE}training_args:\n  max_steps: 1\n  loging_steps: 1\n`,
      /:5: training_args.loging_steps: unknown argument \(did you mean "logging_steps"\?\)/,
    ],
    [
      `${BASE}training_args:\n\n  learning_rate: fast\n`,
      /:5: training_args.learning_rate: expected a number of at least 0, got "fast"/,
    ],
    [`${BASE}training_args: 3\n`, /:3: training_args: expected names and values, got 3/],
    [`${BASE}lora:\n  r: 8\n  lora_alfa: 3\n`, /:5: lora.lora_alfa: unknown key \(did you mean "lora_alpha"\?\)/],
    [`${BASE}lora: {r: "8"}\n`, /:3: lora.r: expected number, got "8"/],
    [`${BASE}lora: {r: 0}\n`, /:3: lora.r: expected number to be >0, got 0/],
    [`${BASE}lora: {init_lora_weights: eva}\n`, /lora.init_lora_weights: .*eva/],
    [`${BASE}health: {non_finit: skip}\n`, /:3: health.non_finit: unknown key \(did you mean "non_finite"\?\)/],
    [`${BASE}health: {max_in_a_row: 0}\n`, /:3: health.max_in_a_row: expected number to be >=1, got 0/],
    [`${BASE}lora:\n`, /:3: lora: is empty: give its options/],
    [`${BASE}quantization: {load_in_4bit: true, load_in_8bit: true}\n`, /:3: quantization.load_in_8bit: .* keep one/],
    [`${BASE}quantization: {bnb_4bit_quant_type: nf4}\n`, /:3: quantization: says neither load_in_4bit: true nor/],
    [`${BASE}quantization: {load_in_8bit: true, bnb_4bit_quant_type: nf4}\n`, /quant_type: belongs to load_in_4bit/],
    [`${BASE}quantization: {load_in_4bit: true, bnb_4bit_quant_typ: nf4}\n`, /unknown key.*"bnb_4bit_quant_type"/],
    [`${BASE}quantization: {load_in_4bit: true, bnb_4bit_quant_type: int4}\n`, /quant_type: .*fp4.*got "int4"/],
    [
      `${BASE}quantization: {load_in_4bit: true, bnb_4bit_quant_storage: float32}\n`,
      /storage: packed weights are bytes/,
    ],
    [
      `${BASE}quantization: {load_in_8bit: true, llm_int8_threshold: 5.5}\n`,
      /threshold: activations are not quantized/,
    ],
    [
      `${BASE}quantization: {load_in_8bit: true, llm_int8_skip_modules: [q_proj]}\n`,
      /skip_modules: the layers left out/,
    ],
    ["model: ./nope\ndataset: train.jsonl\n", /:1: model: no such folder: .*nope/],
    ["model: a/b/c\ndataset: train.jsonl\n", /:1: model: "a\/b\/c" is neither a folder .* nor a hub id/],
    ["model: model\ndataset: nope.jsonl\n", /:2: dataset: no such file or folder: .*nope.jsonl/],
    ["model: model\ndataset:\n  - train.jsonl\n  - {path: ../nope}\n", /:4: dataset\[1\].path: no such file or folder/],
    ["model: model\ndataset: {pth: x}\n", /:2: dataset: .*pth/],
    [`${BASE}eval_dataset: {a: nope.jsonl}\n`, /:3: eval_dataset.a: no such file or folder/],
    [
      `${BASE}eval_dataset: {pth: train.jsonl, format: text}\n`,
      /:3: eval_dataset: has format of one dataset, but no path/,
    ],
    [`${BASE}eval_dataset: {a: {path: train.jsonl, splt: x}}\n`, /:3: eval_dataset.a: has no key "splt"/],
    [`${BASE}eval_split: 1.5\n`, /:3: eval_split: expected a share below 1/],
    [`${BASE}max_samples: 0\n`, /:3: max_samples: /],
    ["model: model\ndataset: {path: train.jsonl, split: 'train[:8'}\n", /"train\[:8" is no split/],
  ])("%j: %s", async (text, message) => {
    const loaded = load(text);
    await expect(loaded).rejects.toThrow(UserError);
    await expect(loaded).rejects.toThrow(message);
  });

  it("names the option where the command line brought the mistake", async () => {
    await expect(load(BASE, "--max_steps", "many")).rejects.toThrow(/^--max_steps: expected a whole number/);
    await expect(load(BASE, "--lora.r", "x")).rejects.toThrow(/^--lora.r: expected number, got "x"/);
    await expect(load(BASE, "--model.x", "1")).rejects.toThrow(/^--model.x: model is "model" in the config file/);
  });

  it("names a file that is not there", async () => {
    await expect(loadConfig(join(folder, "none.yaml"))).rejects.toThrow(/none.yaml: there is no such config file/);
    await expect(loadConfig(folder)).rejects.toThrow(/is a folder, not a file that can be read/);
  });
});
