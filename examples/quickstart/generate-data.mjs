/**
 * Writes the quickstart's texts, the same bytes every time:
 *
 *   node examples/quickstart/generate-data.mjs                   data/train.jsonl and data/heldout.jsonl
 *   node examples/quickstart/generate-data.mjs --pretraining DIR the pretraining text, as rows of {"text": ...}
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { instruction } from "./instructions.mjs";
import { pretrainingDocument } from "./pretraining-text.mjs";
import { Random } from "./random.mjs";

const trainRows = 3000;
const heldoutRows = 200;
/** The pretraining text comes in two parts: single words and short documents first, then everything. */
const pretrainingRows = { first: 32_000, second: 30_000 };

const jsonl = (rows) => `${rows.map((row) => JSON.stringify(row)).join("\n")}\n`;

/** The instruction dataset: no sentence and no combination of field values occurs twice, within or across the splits. */
export function instructionSplits() {
  const random = new Random(2024);
  const prompts = new Set();
  const completions = new Set();
  const rows = [];
  while (rows.length < trainRows + heldoutRows) {
    const row = instruction(random);
    if (prompts.has(row.prompt) || completions.has(row.completion)) continue;
    prompts.add(row.prompt);
    completions.add(row.completion);
    rows.push(row);
  }
  return { train: jsonl(rows.slice(0, trainRows)), heldout: jsonl(rows.slice(trainRows)) };
}

/** The two parts of the pretraining text, one document per row; the first goes from easy to hard. */
export function pretrainingText() {
  const part = (random, rows, progress) =>
    jsonl(Array.from({ length: rows }, (_, i) => ({ text: pretrainingDocument(random, progress(i / rows)) })));
  return {
    first: part(new Random(7), pretrainingRows.first, (written) => written),
    second: part(new Random(8), pretrainingRows.second, () => 1),
  };
}

function write(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  console.log(`${path}: ${text.split("\n").length - 1} rows, ${(text.length / 1e6).toFixed(2)} MB`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === "--pretraining") {
    const { first, second } = pretrainingText();
    write(join(process.argv[3], "first.jsonl"), first);
    write(join(process.argv[3], "second.jsonl"), second);
  } else {
    const data = join(dirname(fileURLToPath(import.meta.url)), "data");
    const { train, heldout } = instructionSplits();
    write(join(data, "train.jsonl"), train);
    write(join(data, "heldout.jsonl"), heldout);
  }
}
