/** The README's snippets run as they stand, with only the model and the data put in. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fixturePath } from "./support/goldens.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(join(root, "README.md"), "utf8");
const model = fixturePath("tiny-llama");
const data = fixturePath("data/prompt-completion.jsonl");
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-readme-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function snippet(language: string): string {
  const found = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(readme);
  if (!found) throw new Error(`README.md has no ${language} snippet`);
  return found[1]!.replaceAll("path/or/hub-id", model).replaceAll("data/train.jsonl", data);
}

function run(cwd: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: "utf8" });
  expect(status, stderr).toBe(0);
  return stdout + stderr;
}

/** The snippet's meaning: 21 rows, 16 a step, 3 epochs, checkpoints after each. */
function expectRun(cwd: string): { loss: number }[] {
  const output = join(cwd, "slm-finetuned-model");
  const state = JSON.parse(readFileSync(join(output, "trainer_state.json"), "utf8"));
  expect(state).toMatchObject({
    global_step: 6,
    max_steps: 6,
    num_train_epochs: 3,
    train_batch_size: 2,
    logging_steps: 10,
  });
  for (const name of [
    "adapter_model.safetensors",
    "adapter_config.json",
    "checkpoint-2",
    "checkpoint-4",
    "checkpoint-6",
  ]) {
    expect(existsSync(join(output, name)), name).toBe(true);
  }
  return state.log_history;
}

describe("the README's run", () => {
  it("goes in YAML, and the adapter answers", () => {
    const cwd = mkdtempSync(join(folder, "yaml-"));
    writeFileSync(join(cwd, "config.yaml"), snippet("yaml"));
    const cli = join(root, "dist/cli/main.js");
    const output = run(cwd, cli, "train", "config.yaml");
    expect(output).toContain("2 per device × 8 accumulated × 1 device = 16 examples per update");
    expect(output).toMatch(/optim=paged_adamw_32bit.*bf16=true/);
    expectRun(cwd);
    run(cwd, cli, "generate", "./slm-finetuned-model", "--prompt", "Hello", "--max_new_tokens", "3");
  });

  it("goes in TypeScript", () => {
    const cwd = mkdtempSync(join(folder, "ts-"));
    const api = pathToFileURL(join(root, "dist/index.js")).href;
    writeFileSync(join(cwd, "run.mjs"), snippet("ts").replace('from "slimtune"', `from "${api}"`));
    run(cwd, "run.mjs");
    expect(expectRun(cwd).at(-1)).toHaveProperty("train_loss");
  });
});
