import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { EvaluationConfig } from "../evaluate/evaluateModel.js";
import { runEval } from "./eval.js";

const fixture = (name: string) => fileURLToPath(new URL(`../../tests/fixtures/${name}`, import.meta.url));
const MODEL = fixture("tiny-llama");
const DATA = fixture("data/prompt-completion.jsonl");

let folder: string;
let stdout = "";
let asked: EvaluationConfig | undefined;
const metrics = { eval_loss: 2.0144059, eval_perplexity: 7.4963, eval_mine: 1, eval_runtime: 0.25 };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-eval-"));
  stdout = "";
  asked = undefined;
  vi.doMock("../evaluate/evaluateModel.js", () => ({
    evaluateModel: async (config: EvaluationConfig) => {
      asked = config;
      return metrics;
    },
  }));
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation(() => true);
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.doUnmock("../evaluate/evaluateModel.js");
  rmSync(folder, { recursive: true });
});

function config(lines: string[]): string {
  const path = join(folder, "config.yaml");
  writeFileSync(path, [`model: ${MODEL}`, `dataset: ${DATA}`, ...lines].join("\n"));
  return path;
}

describe("slimtune eval", () => {
  it("measures a named model on named data, with training arguments", async () => {
    await runEval(["--model", MODEL, "--dataset", DATA, "--per_device_eval_batch_size", "3", "--bf16"]);
    expect(asked).toMatchObject({
      model: MODEL,
      dataset: [DATA],
      training_args: { per_device_eval_batch_size: 3, bf16: true },
    });
    expect(asked!.adapter).toBeUndefined();
    await runEval(["--model", MODEL, "--adapter", fixture("tiny-llama-adapter"), `--dataset={path: ${DATA}}`]);
    expect(asked).toMatchObject({ adapter: fixture("tiny-llama-adapter"), dataset: [{ path: DATA }] });
  });

  it("prints a small table, or JSON at full precision", async () => {
    await runEval(["--model", MODEL, "--dataset", DATA]);
    expect(stdout.split("\n")).toEqual([
      "eval_loss        2.014  mean of -log p over the measured tokens; lower is better",
      "eval_perplexity  7.496  e^loss: as unsure as between this many tokens",
      "eval_mine            1",
      "eval_runtime      0.25  seconds",
      "",
    ]);
    stdout = "";
    await runEval(["--json", "--model", MODEL, "--dataset", DATA]);
    expect(JSON.parse(stdout)).toEqual(metrics);
  });

  it("measures what a config's run left in output_dir", async () => {
    const out = join(folder, "out");
    const args = ["training_args:", `  output_dir: ${out}`, "  max_length: 77"];
    const file = config([`eval_dataset: ${DATA}`, ...args]);
    await expect(runEval([file])).rejects.toThrow(/output_dir: .*out holds no trained model.*slimtune train/s);
    mkdirSync(out);
    writeFileSync(join(out, "config.json"), "{}");
    await runEval([file]);
    expect(asked).toMatchObject({ model: out, dataset: DATA, training_args: { max_length: 77 } });
    writeFileSync(join(out, "adapter_config.json"), "{}");
    await runEval([file]);
    expect(asked).toMatchObject({ model: MODEL, adapter: out });
    await runEval([file, "--model", MODEL]);
    expect(asked).toMatchObject({ model: MODEL });
    expect(asked!.adapter).toBeUndefined();
    const other = fixture("data/text.jsonl");
    await runEval([file, "--dataset", other, "--adapter", fixture("tiny-llama-adapter")]);
    expect(asked).toMatchObject({ model: MODEL, adapter: fixture("tiny-llama-adapter"), dataset: other });
  });

  it("measures a run's folder as the run had it", async () => {
    const out = join(folder, "out");
    mkdirSync(out);
    writeFileSync(join(out, "config.json"), "{}");
    const training_args = { max_length: 77, hub_token: "<HUB_TOKEN>" };
    const record = { format: 1, id: "x", started: "", plan: null, starts: [], changes: [] };
    const recorded = (config: object) => writeFileSync(join(out, "run.json"), JSON.stringify({ ...record, config }));
    recorded({ eval_dataset: { easy: DATA }, training_args });
    await runEval([out]);
    expect(asked).toMatchObject({ model: out, dataset: { easy: DATA }, training_args: { max_length: 77 } });
    await runEval([out, "--dataset", fixture("data/text.jsonl"), "--max_length", "5"]);
    expect(asked).toMatchObject({ dataset: [fixture("data/text.jsonl")], training_args: { max_length: 5 } });
    recorded({ training_args });
    await expect(runEval([out])).rejects.toThrow(/out: its run had no eval_dataset; give --dataset FILE/);
  });

  it.each<[string[], RegExp]>([
    [[], /nothing to evaluate: give a config file, a run's folder, or --model DIR and --dataset FILE/],
    [["--model", MODEL], /nothing to evaluate on: give --dataset FILE/],
    [["--model", "./nowhere", "--dataset", DATA], /--model: no such folder/],
    [["--model", MODEL, "--dataset", "./nowhere.jsonl"], /--dataset: no such file or folder/],
    [
      ["--model", MODEL, "--dataset", DATA, "--lora.r", "4"],
      /--lora\.r: npx slimtune eval takes it in a config file only/,
    ],
    [["--modle", MODEL], /unknown option --modle \(did you mean "model"\?\)/],
    [["a.yaml", "b.yaml"], /unexpected "b.yaml"/],
  ])("%j is refused", async (words, message) => {
    await expect(runEval(words)).rejects.toThrow(message);
    expect(asked).toBeUndefined();
  });

  it("says that a config has nothing to evaluate on", async () => {
    await expect(runEval([config([])])).rejects.toThrow(
      /config.yaml: it has no eval_dataset; add one, or give --dataset/,
    );
  });
});
