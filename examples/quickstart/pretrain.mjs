/**
 * Makes the quickstart's base model anew, from nothing: text, tokenizer, random weights, training, bf16.
 *
 *   node examples/quickstart/pretrain.mjs [--name value ...]     options go to `slimtune train pretrain.yaml`
 *
 * It needs a built checkout (`npm run quickstart` builds one) and takes minutes. Everything in between lies in .cache/.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readHeader } from "../../dist/files/safetensors.js";
import { writeSafetensors } from "../../dist/files/safetensorsWriter.js";
import { pretrainingText } from "./generate-data.mjs";
import { initModel, modelConfig } from "./init-model.mjs";
import { writeTokenizer } from "./train-tokenizer.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const cache = join(here, ".cache");
const initial = join(cache, "init");
const baseModel = join(here, "base-model");

/** float32 as bfloat16: the upper half of the bits, rounded to the nearest, ties to even. */
function toBf16(float32) {
  const bits = new Uint32Array(float32.buffer, float32.byteOffset, float32.length);
  const halves = new Uint16Array(bits.length);
  for (const [i, word] of bits.entries()) halves[i] = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  return new Uint8Array(halves.buffer);
}

/** A safetensors file of float32 weights, written again in bf16. */
async function convertToBf16(from, to) {
  const { tensors } = await readHeader(from);
  const bytes = readFileSync(from);
  const entries = [...tensors].map(([name, { shape, begin, end }]) => {
    const values = new Float32Array(Uint8Array.from(bytes.subarray(begin, end)).buffer);
    return { name, dtype: "BF16", shape, data: async () => toBf16(values) };
  });
  await writeSafetensors(to, entries);
}

console.log("1/4 text");
const text = pretrainingText();
rmSync(cache, { recursive: true, force: true });
mkdirSync(cache, { recursive: true });
for (const part of ["first", "second"]) writeFileSync(join(cache, `${part}.jsonl`), text[part]);

console.log("2/4 tokenizer and random weights");
const documents = text.first
  .trimEnd()
  .split("\n")
  .map((row) => JSON.parse(row).text);
writeTokenizer(initial, documents);
await initModel(initial);

console.log("3/4 training");
const slimtune = join(root, "dist", "cli", "main.js");
/** One run of pretrain.yaml: a model that has read one more part. */
function read(part, model, warmup) {
  const output = join(cache, `read-${part}`);
  const args = ["--model", model, "--dataset", join(cache, `${part}.jsonl`), "--output_dir", output];
  const { status } = spawnSync(
    process.execPath,
    [slimtune, "train", join(here, "pretrain.yaml"), ...args, "--warmup_steps", warmup, ...process.argv.slice(2)],
    { cwd: root, stdio: "inherit" },
  );
  if (status !== 0) process.exit(status ?? 1);
  return output;
}
const pretrained = read("second", read("first", initial, "100"), "50");

console.log("4/4 bf16");
mkdirSync(baseModel, { recursive: true });
for (const name of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(initial, name), join(baseModel, name));
writeFileSync(join(baseModel, "config.json"), `${JSON.stringify({ ...modelConfig, dtype: "bfloat16" }, null, 2)}\n`);
await convertToBf16(join(pretrained, "model.safetensors"), join(baseModel, "model.safetensors"));
console.log(`${baseModel} is ready.`);
