import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { takeAliases } from "./aliases.js";
import { parseCommandLine } from "./overrides.js";

function take(text: string) {
  const data = parse(text) as Record<string, unknown>;
  const { notes, problems } = takeAliases(data);
  return { data, notes, problems: problems.map(({ path, message }) => `${path.join(".")}: ${message}`) };
}

describe("takeAliases", () => {
  it("leaves a config of ours alone", () => {
    const text = "{model: m, dataset: d, adapter: ./a, lora: {r: 4}, training_args: {seed: 1}, modle: x}";
    expect(take(text)).toEqual({ data: parse(text), notes: [], problems: [] });
  });

  it("takes flat training arguments, old names among them, with one note", () => {
    const { data, notes } = take("{model: m, learning_rate: 1e-4, warmup_ratio: 0.1, training_args: {seed: 1}}");
    expect(data).toEqual({ model: "m", training_args: { seed: 1, learning_rate: 1e-4, warmup_ratio: 0.1 } });
    expect(notes).toEqual(["Taken as training_args: learning_rate, warmup_ratio"]);
  });

  it("takes Axolotl's names where they mean the same", () => {
    const { data, notes, problems } = take(`
base_model: org/m
dataset: d
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
load_in_4bit: false
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_torch
lr_scheduler: cosine
early_stopping_patience: 2
val_set_size: 0.05
`);
    expect(problems).toEqual([]);
    expect(data).toEqual({
      model: "org/m",
      dataset: "d",
      lora: { r: 16, lora_alpha: 32, target_modules: "all-linear" },
      training_args: {
        per_device_train_batch_size: 2,
        num_train_epochs: 3,
        optim: "adamw_torch",
        lr_scheduler_type: "cosine",
      },
      early_stopping: { patience: 2 },
      eval_split: 0.05,
    });
    expect(take("{val_size: 0}")).toEqual({ data: {}, notes: [], problems: [] });
    expect(notes).toContain("base_model is another program's name: taken as model");
    expect(notes).toContain('Taken as lora: {"r":16,"lora_alpha":32,"target_modules":"all-linear"}');
  });

  it("takes LLaMA-Factory's, with its defaults of LoRA", () => {
    const { data, problems } = take(
      "{model_name_or_path: m, stage: sft, do_train: true, finetuning_type: lora, lora_rank: 16, dataset: d}",
    );
    expect(problems).toEqual([]);
    expect(data).toEqual({
      model: "m",
      dataset: "d",
      lora: { r: 16, target_modules: "all-linear", lora_alpha: 32 },
      training_args: { do_train: true },
    });
    const named = take("{finetuning_type: lora, lora_target: 'q_proj, v_proj', lora_alpha: 5}").data.lora;
    expect(named).toEqual({ r: 8, target_modules: ["q_proj", "v_proj"], lora_alpha: 5 });
    expect(take("{finetuning_type: full, model: m}")).toMatchObject({ data: { model: "m" }, problems: [] });
  });

  it("takes the switch of TRL's command line, with its defaults", () => {
    expect(take("{use_peft: true, lora_r: 4}").data.lora).toEqual({
      r: 4,
      lora_alpha: 32,
      lora_dropout: 0.05,
      target_modules: null,
    });
  });

  it.each([
    ["{base_model: a, model: b}", "base_model: is the same as model, which is there too; keep one"],
    ["{seed: 1, training_args: {seed: 2}}", "seed: is the same as training_args.seed, which is there too"],
    ["{adapter: lora}", "adapter: write lora: {r: ..., lora_alpha: ..., target_modules: ...}; r and lora_alpha and"],
    [
      "{lora_r: 4, lora_alpha: 8}",
      "lora_r: write lora: {r: ..., lora_alpha: ..., target_modules: ...}; target_modules",
    ],
    ["{lora_r: 4, lora: {r: 4}}", "lora_r: is an option of lora, which is there too"],
    ["{finetuning_type: full, lora_rank: 4}", "lora_rank: is an option of LoRA, which is switched off"],
    ["{finetuning_type: freeze}", "finetuning_type: lora and full are built"],
    ["{stage: dpo}", "stage: only sft is built"],
    ["{adapter: qlora, lora_r: 8, load_in_4bit: true}", "adapter: is Axolotl's: write lora: {...} with quantization:"],
    ["{load_in_4bit: true}", "load_in_4bit: write quantization: {load_in_4bit: true}"],
    ["{datasets: [{path: d, type: alpaca}]}", "datasets: is Axolotl's: write dataset: {path: ..., format: alpaca}"],
    ["{sequence_len: 512}", "sequence_len: is Axolotl's: write training_args.max_length, which cuts longer rows"],
    ["{cutoff_len: 512}", "cutoff_len: is LLaMA-Factory's: write training_args.max_length"],
    ["{template: qwen}", "template: is LLaMA-Factory's: the model's own chat template is used"],
    ["{quantization_bit: 4}", "quantization_bit: is LLaMA-Factory's: write lora: {...} with quantization:"],
  ])("%s is refused", (text, message) => {
    const { problems, data } = take(text);
    expect(problems).toEqual([expect.stringContaining(message)]);
    expect(data).not.toHaveProperty(message.split(":")[0]!);
  });
});

describe("other names on the command line", () => {
  it.each<[string, unknown]>([
    ["--base_model", { path: ["model"], value: "x" }],
    ["--num-epochs", { path: ["training_args", "num_train_epochs"], value: "x" }],
  ])("%s", (option, override) => {
    expect(parseCommandLine([option, "x"]).overrides).toEqual([expect.objectContaining(override)]);
  });

  it.each([
    ["--load_in_4bit", "unknown option --load_in_4bit: write --quantization.load_in_4bit"],
    ["--patience", "unknown option --patience: write --early_stopping.patience"],
    ["--r", "unknown option --r: write --lora.r"],
    ["--lora_r", "unknown option --lora_r: write --lora.r"],
    ["--cutoff_len", "unknown option --cutoff_len: it is LLaMA-Factory's; write training_args.max_length"],
    ["--sequence-len", "unknown option --sequence-len: it is Axolotl's; write training_args.max_length"],
    ["-model", "unknown option -model: options have two dashes, as --model"],
  ])("%s", (option, message) => {
    expect(() => parseCommandLine(["a.yaml", option, "8"])).toThrow(message);
  });
});
