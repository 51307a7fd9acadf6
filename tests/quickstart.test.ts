/** What ships for the quickstart: the two splits, the scripts that made them, the tokenizer and the base model. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../src/config/index.js";
import { Tokenizer } from "../src/data/tokenizer.js";
import { readHeader } from "../src/files/safetensors.js";
import { loadGenerator } from "../src/index.js";
import { elementCount } from "../src/support/shape.js";
import { flush, liveTensors } from "../src/torch/index.js";

interface Row {
  prompt: string;
  completion: string;
}

const folder = fileURLToPath(new URL("../examples/quickstart/", import.meta.url));
const baseModel = join(folder, "base-model");
const text = (split: string) => readFileSync(join(folder, "data", `${split}.jsonl`), "utf8");
const rowsOf = (jsonl: string): Row[] =>
  jsonl
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const train = rowsOf(text("train"));
const heldout = rowsOf(text("heldout"));

// The scripts are plain JavaScript, so that they run in a checkout without a build.
const { instructionSplits, pretrainingText } = await import(join(folder, "generate-data.mjs"));
const { writeTokenizer } = await import(join(folder, "train-tokenizer.mjs"));

describe("the instruction dataset", () => {
  it.each(["prompt", "completion"] as const)("has no %s twice, within or across the splits", (field) => {
    const all = [...train, ...heldout].map((row) => row[field]);
    expect(new Set(all).size).toBe(train.length + heldout.length);
  });

  it("has enough of both, and answers that are JSON with the same five fields", () => {
    expect(train.length).toBeGreaterThanOrEqual(2000);
    expect(heldout.length).toBeGreaterThanOrEqual(200);
    for (const { completion } of [...train, ...heldout]) {
      expect(Object.keys(JSON.parse(completion))).toEqual(["name", "city", "item", "count", "color"]);
    }
  });

  it("is what the script makes, byte for byte", () => {
    expect(instructionSplits()).toEqual({ train: text("train"), heldout: text("heldout") });
  });
});

describe("the base model", () => {
  const parts: { first: string; second: string } = pretrainingText();
  const pretraining = parts.first + parts.second;

  it("never saw the task in its pretraining text", () => {
    expect(pretraining.length).toBeGreaterThan(1e6);
    for (const key of ["name", "city", "item", "count", "color"]) {
      expect(pretraining).not.toContain(JSON.stringify(`"${key}":`).slice(1, -1));
    }
  });

  it("is small, in bf16 and of 2 to 6 million parameters", async () => {
    const path = join(baseModel, "model.safetensors");
    const tensors = [...(await readHeader(path)).tensors.values()];
    const parameters = tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    expect(statSync(path).size).toBeLessThanOrEqual(12e6);
    expect(new Set(tensors.map(({ dtype }) => dtype))).toEqual(new Set(["BF16"]));
    expect(parameters).toBeGreaterThanOrEqual(2e6);
    expect(parameters).toBeLessThanOrEqual(6e6);
  });

  it("has the tokenizer that the script trains on that text", () => {
    const remade = mkdtempSync(join(tmpdir(), "slimtune-tokenizer-"));
    const documents = parts.first
      .trimEnd()
      .split("\n")
      .map((row) => JSON.parse(row).text);
    writeTokenizer(remade, documents);
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      expect(readFileSync(join(remade, name), "utf8")).toBe(readFileSync(join(baseModel, name), "utf8"));
    }
    rmSync(remade, { recursive: true });
  });

  it("has a tokenizer that gives every row back, whole and split where the prompt ends", async () => {
    const tokenizer = await Tokenizer.load(baseModel);
    const encode = (part: string) => [...tokenizer.encode(part, { addSpecialTokens: false })];
    for (const { prompt, completion } of [...train, ...heldout]) {
      const ids = encode(prompt + completion);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(prompt + completion);
      expect(ids).toEqual([...encode(prompt), ...encode(completion)]);
    }
  });

  it("cannot do the task", async () => {
    const generator = await loadGenerator({ model: baseModel });
    const asked = heldout.slice(0, 50);
    const answers = await generator.complete(
      asked.map(({ prompt }) => prompt),
      { max_new_tokens: 32 },
    );
    generator.dispose();
    expect(answers.filter((answer, i) => answer.trim() === asked[i]!.completion.trim())).toEqual([]);
    await flush();
    expect(liveTensors()).toBe(0);
  });
});

describe("the configs", () => {
  let finetune: Awaited<ReturnType<typeof loadConfig>>;
  beforeAll(async () => {
    finetune = await loadConfig(join(folder, "finetune.yaml"));
  });

  it("fine-tune the base model that ships on the split that ships, and never on the held-out one", () => {
    expect(finetune.model).toBe(baseModel);
    expect(finetune.dataset).toBe(join(folder, "data", "train.jsonl"));
  });
});

describe("the quickstart", () => {
  it("teaches the task: near 0 % before, 90 % or more of the held-out answers right after", () => {
    const output = join(mkdtempSync(join(tmpdir(), "slimtune-quickstart-")), "adapter");
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(folder, "quickstart.mjs"), "--output_dir", output],
      { encoding: "utf8" },
    );
    rmSync(join(output, ".."), { recursive: true });
    expect(status, stderr).toBe(0);
    const [, before, after] = /before fine-tuning +([\d.]+) %[\s\S]*after fine-tuning +([\d.]+) %/.exec(stdout)!;
    expect(Number(before)).toBeLessThanOrEqual(1);
    expect(Number(after)).toBeGreaterThanOrEqual(90);
  }, 600_000);
});
