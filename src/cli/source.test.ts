import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { fixturePath } from "../../tests/support/goldens.js";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { tinyTrainer } from "../../tests/support/tinyRun.js";
import { sourceOf } from "./source.js";

const newFolder = temporaryFolders();
const here = process.cwd();
const model = fixturePath("tiny-llama");
let told = "";

beforeEach(() => {
  told = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    told += text;
    return true;
  });
});
afterEach(() => {
  process.chdir(here);
  vi.restoreAllMocks();
});

function adapterIn(folder: string, base: unknown): string {
  mkdirSync(folder, { recursive: true });
  const config = { peft_type: "LORA", base_model_name_or_path: base, r: 4, target_modules: ["q_proj"] };
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify(config));
  return folder;
}

describe("what a name stands for", () => {
  it("is a run's result, a checkpoint of it, its newest checkpoint, and the config's run", async () => {
    process.chdir(newFolder());
    await tinyTrainer("out", { max_steps: 2, save_strategy: "steps", save_steps: 1 }).train();
    const result = { model, adapter: join(process.cwd(), "out") };
    expect(await sourceOf("out")).toEqual(result);
    expect(await sourceOf("out/checkpoint-1")).toEqual({ model, adapter: join(process.cwd(), "out/checkpoint-1") });
    writeFileSync("run.yaml", `model: ${model}\ndataset: org/d\ntraining_args: {output_dir: out}\n`);
    expect(await sourceOf("run.yaml")).toMatchObject({ model });
    expect(await sourceOf("out", "org/other")).toEqual({ ...result, model: "org/other" });
    const { rmSync } = await import("node:fs");
    rmSync("out/adapter_config.json");
    expect(await sourceOf("out")).toEqual({ model, adapter: join(process.cwd(), "out/checkpoint-2") });
    expect(told).toContain("has no result yet; this is its newest checkpoint");
  });

  it("is an adapter, whose config names the base, or a model", async () => {
    const home = newFolder();
    expect(await sourceOf(adapterIn(join(home, "a"), model))).toEqual({ model, adapter: join(home, "a") });
    expect(await sourceOf(model)).toEqual({ model });
  });

  it("is nothing where there is no model, which is said", async () => {
    const home = newFolder();
    process.chdir(home);
    await expect(sourceOf(home)).rejects.toThrow(
      /holds no trained model: there is no adapter_config.json, no config.json/,
    );
    const [silent, lost] = [adapterIn(join(home, "a"), null), adapterIn(join(home, "b"), "./gone")];
    await expect(sourceOf(silent)).rejects.toThrow(/names no base model\. Name it with --model/);
    await expect(sourceOf(lost)).rejects.toThrow(/base_model_name_or_path: no such folder: .*gone\. Name the base/);
    writeFileSync("run.yaml", `model: ${model}\ndataset: org/d\ntraining_args: {output_dir: nowhere}\n`);
    await expect(sourceOf("run.yaml")).rejects.toThrow(
      /nowhere of run.yaml is not there yet. Train first: npx slimtune/,
    );
  });
});
