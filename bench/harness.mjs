/** What the benchmarks share: the model and the data, the machine and its GEMM peak, and the environment of a run. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadConfig, parseCommandLine } from "../dist/config/index.js";
import { makeModel } from "../examples/gsm8k/make-model.mjs";
import { readTexts } from "../examples/gsm8k/tokenizer.mjs";
import { families } from "./families.mjs";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const results = join(root, "bench", "results");
/** A model that trains in no time. */
export const tinyModel = join(root, "tests", "fixtures", "tiny-llama");
const gsm8k = ["examples/gsm8k/train.jsonl", "../shared/data/gsm8k/train.jsonl"].map((path) => join(root, path));

export const say = (line) => console.error(line);

/** Options that every benchmark takes, as node:util's parseArgs wants them. */
export const commonOptions = {
  help: { type: "boolean" },
  quick: { type: "boolean", default: false },
  threads: { type: "string", default: String(availableParallelism()) },
  model: { type: "string" },
  dataset: { type: "string" },
};

export const commonHelp = `
  --threads N          threads of each program (default: all cores)
  --model FOLDER       default: a random model of SmolLM2-135M's shape, drawn once
  --dataset FILE       GSM8K's train.jsonl (default: examples/gsm8k/train.jsonl)`.trimStart();

/** The options with those of `least` as whole numbers of at least that. */
export function wholeNumbers(options, least) {
  const numbers = {};
  for (const [name, smallest] of Object.entries(least)) {
    numbers[name] = Number(options[name]);
    if (!(Number.isInteger(numbers[name]) && numbers[name] >= smallest)) {
      throw new Error(`--${name} ${options[name]}: a whole number of at least ${smallest}`);
    }
  }
  return { ...options, ...numbers };
}

/** GSM8K's file: the one that was named, or where it usually lies. */
export function gsm8kFile(dataset) {
  const data = dataset ?? gsm8k.find(existsSync);
  if (!data || !existsSync(data)) {
    throw new Error(`GSM8K's train.jsonl is not at ${data ?? gsm8k[0]}; see examples/gsm8k/README.md, or try --quick`);
  }
  return data;
}

/** The folder of the model: the one that was named, or a random one of SmolLM2-135M's shape or of a family's. */
export async function modelFolder(model, data, family) {
  if (model) return model;
  const name = family ?? "smollm2-135m";
  const folder = join(results, `${name}-random`);
  if (!existsSync(join(folder, "model.safetensors"))) {
    say(`Drawing a random model of ${name}'s shape ...`);
    await makeModel(folder, { texts: readTexts(data), ...(family ? { config: families[family] } : {}) });
  }
  return folder;
}

/** A run as `slimtune train` takes it: the config file, the options over it, and what both come to. */
export async function readRun(file, options) {
  const { overrides } = parseCommandLine([file, ...options]);
  return { file, options, config: await loadConfig(file, overrides) };
}

/** The environment of every program that is measured. */
export function environment(threads) {
  const env = { ...process.env, OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) };
  Object.assign(env, { HF_HUB_OFFLINE: "1", TOKENIZERS_PARALLELISM: "false" });
  delete env.NODE_OPTIONS;
  return env;
}

/** What LibTorch's matrix product reaches now: see gemm.mjs. */
export const measureGemm = (env) =>
  JSON.parse(execFileSync(process.execPath, [join(root, "bench", "gemm.mjs")], { env, encoding: "utf8" }));

export function describeMachine({ torch_version, cpu_capability, threads }) {
  const gibibytes = (totalmem() / 2 ** 30).toFixed(0);
  return `${threads} threads of ${cpus()[0].model.trim()} (${cpu_capability}), ${gibibytes} GiB, Node ${process.versions.node}, LibTorch ${torch_version}`;
}

/** Writes a benchmark's record and its table side by side; gives the record's path. */
export function writeResults(name, record, markdown) {
  mkdirSync(results, { recursive: true });
  const path = join(results, `${name}-${new Date().toISOString().replaceAll(":", "-")}`);
  writeFileSync(`${path}.json`, `${JSON.stringify(record, null, 2)}\n`);
  writeFileSync(`${path}.md`, `${markdown}\n`);
  return `${path}.json`;
}

/** Runs a benchmark's main function; a failure is told in one line. */
export function runBenchmark(main) {
  main().catch((error) => {
    console.error(`bench: ${error.message}`);
    process.exitCode = 1;
  });
}
