import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { parseCommandLine } from "./overrides.js";

describe("parseCommandLine", () => {
  it.each<[string[], (string | number)[], unknown]>([
    [["--max_steps", "3"], ["training_args", "max_steps"], 3],
    [["--max-steps=3"], ["training_args", "max_steps"], 3],
    [["--max_steps", "-1"], ["training_args", "max_steps"], -1],
    [["--learning_rate", "2e-4"], ["training_args", "learning_rate"], 2e-4],
    [["--bf16"], ["training_args", "bf16"], true],
    [["--bf16", "False"], ["training_args", "bf16"], false],
    [["--bf16", "no"], ["training_args", "bf16"], false],
    [["--bf16", "1"], ["training_args", "bf16"], true],
    [["--output_dir", "123"], ["training_args", "output_dir"], "123"],
    [["--output_dir", "a #1"], ["training_args", "output_dir"], "a #1"],
    [["--output_dir", "a: b"], ["training_args", "output_dir"], "a: b"],
    [["--eos_token", "[end]"], ["training_args", "eos_token"], "[end]"],
    [["--eos_token", "@{"], ["training_args", "eos_token"], "@{"],
    [["--data_seed", "null"], ["training_args", "data_seed"], null],
    [["--resume_from_checkpoint", "true"], ["training_args", "resume_from_checkpoint"], true],
    [["--resume_from_checkpoint"], ["training_args", "resume_from_checkpoint"], true],
    [["--resume_from_checkpoint", "out/checkpoint-3"], ["training_args", "resume_from_checkpoint"], "out/checkpoint-3"],
    [["--lr_scheduler_kwargs", '{"num_cycles": 2}'], ["training_args", "lr_scheduler_kwargs"], { num_cycles: 2 }],
    [["--warmup_ratio", "0.1"], ["training_args", "warmup_ratio"], 0.1],
    [["--model", "123"], ["model"], "123"],
    [["--dataset", "data/[ab].jsonl"], ["dataset"], "data/[ab].jsonl"],
    [["--dataset", "{path: a.jsonl, split: test}"], ["dataset"], { path: "a.jsonl", split: "test" }],
    [["--lora.lora_alpha", "32"], ["lora", "lora_alpha"], 32],
    [["--lora.lora-alpha", "32"], ["lora", "lora_alpha"], 32],
    [
      ["--lora.target_modules", "[q_proj, v_proj]"],
      ["lora", "target_modules"],
      ["q_proj", "v_proj"],
    ],
    [["--lora", "{r: 4}"], ["lora"], { r: 4 }],
    [["--dataset.split", "test"], ["dataset", "split"], "test"],
  ])("%j sets %j to %j", (words, path, value) => {
    const { config, overrides } = parseCommandLine(["config.yaml", ...words]);
    expect(config).toBe("config.yaml");
    expect(overrides).toEqual([expect.objectContaining({ path, value })]);
  });

  it("finds the config file among the options", () => {
    const words = ["--bf16", "config.yaml", "--max_steps", "3"];
    expect(parseCommandLine(words)).toMatchObject({
      config: "config.yaml",
      overrides: [{ value: true }, { value: 3 }],
    });
  });

  it.each<[string[], RegExp]>([
    [[], /nothing to train: give a config file .* or --model FOLDER --dataset FILE/],
    [["a.yaml", "b.yaml"], /unexpected "b.yaml"/],
    [["a.yaml", "--max_step", "3"], /unknown option --max_step \(did you mean "max_steps"\?\)/],
    [["a.yaml", "--modle", "x"], /unknown option --modle \(did you mean "model"\?\)/],
    [["a.yaml", "--learning_rate.x", "3"], /unknown option --learning_rate.x/],
    [["a.yaml", "--training_args.__proto__.seed=5"], /unknown option --training_args.__proto__.seed/],
    [["a.yaml", "--lora.--proto--.r", "5"], /unknown option --lora.--proto--.r/],
    [["a.yaml", "--__proto__.seed=5"], /unknown option --__proto__.seed/],
    [["a.yaml", "--max_steps"], /--max_steps needs a value/],
    [["a.yaml", "--max_steps", "--bf16"], /--max_steps needs a value/],
    [["a.yaml", "--lora.r"], /--lora.r needs a value/],
  ])("%j: %s", (words, message) => {
    expect(() => parseCommandLine(words)).toThrow(UserError);
    expect(() => parseCommandLine(words)).toThrow(message);
  });
});
