/**
 * `npm run bench`: one LoRA run on GSM8K in slimtune and in Python's trainers, on the same data in the same order,
 * taking turns. Prints medians and ratios as Markdown; writes everything measured to bench/results/ as JSON.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir, totalmem } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadConfig, parseCommandLine } from "../dist/config/index.js";
import { makeModel } from "../examples/gsm8k/make-model.mjs";
import { readTexts } from "../examples/gsm8k/tokenizer.mjs";
import { contestants, pythonVersions, readCurve } from "./contestants.mjs";
import { measure } from "./measure.mjs";
import { curveTable, disagreement, figureTable, median, runTable, summarise } from "./summary.mjs";
import { workload } from "./workload.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const results = join(root, "bench", "results");
const gsm8k = ["examples/gsm8k/train.jsonl", "../shared/data/gsm8k/train.jsonl"].map((path) => join(root, path));

const help = `npm run bench -- [options]
  --quick              the tiny model only: a check of the harness in a minute
  --steps N            updates per run, the first of which is warm-up (default 3)
  --runs N             runs of each program, taking turns (default 2)
  --starts N           starts of each program with the tiny model (default 3)
  --threads N          threads of each program (default: all cores)
  --model FOLDER       default: a random model of SmolLM2-135M's shape, drawn once
  --dataset FILE       GSM8K's train.jsonl (default: examples/gsm8k/train.jsonl)
  --python PROGRAM     a Python with torch, transformers, peft and trl (default: SLIMTUNE_BENCH_PYTHON, or python3)
  --contestants LIST   of ${Object.keys(contestants).join(", ")} (default: slimtune,trl,transformers)`;

/** The largest relative difference of losses and gradient norms at which two float32 runs count as the same. */
const TOLERANCE = 1e-3;

const say = (line) => console.error(line);

function readOptions() {
  const text = (fallback) => ({ type: "string", default: fallback });
  const { values } = parseArgs({
    options: {
      help: { type: "boolean" },
      quick: { type: "boolean", default: false },
      steps: text("3"),
      runs: text("2"),
      starts: text("3"),
      threads: text(String(availableParallelism())),
      model: { type: "string" },
      dataset: { type: "string" },
      python: text(process.env.SLIMTUNE_BENCH_PYTHON ?? "python3"),
      contestants: text("slimtune,trl,transformers"),
    },
  });
  const options = { ...values, contestants: values.contestants.split(",") };
  for (const [name, least] of Object.entries({ steps: 2, runs: 1, starts: 1, threads: 1 })) {
    options[name] = Number(values[name]);
    if (!(Number.isInteger(options[name]) && options[name] >= least)) {
      throw new Error(`--${name} ${values[name]}: a whole number of at least ${least}`);
    }
  }
  for (const name of options.contestants) {
    if (!Object.hasOwn(contestants, name)) {
      throw new Error(`--contestants ${name}: one of ${Object.keys(contestants).join(", ")}`);
    }
  }
  return options;
}

/** A run as the contestants take it: the config file, the options over it, and what both come to. */
async function readRun(file, options) {
  const { overrides } = parseCommandLine([file, ...options]);
  return { file, options, config: await loadConfig(file, overrides) };
}

async function gsm8kRun({ dataset, model, steps }) {
  const data = dataset ?? gsm8k.find(existsSync);
  if (!data || !existsSync(data)) {
    throw new Error(`GSM8K's train.jsonl is not at ${data ?? gsm8k[0]}; see examples/gsm8k/README.md, or try --quick`);
  }
  let folder = model;
  if (!folder) {
    folder = join(results, "smollm2-135m-random");
    if (!existsSync(join(folder, "model.safetensors"))) {
      say("Drawing a random model of SmolLM2-135M's shape ...");
      await makeModel(folder, { texts: readTexts(data) });
    }
  }
  // No warm-up of the learning rate: the first update already changes the weights, so every later loss proves something.
  const options = ["--model", folder, "--dataset.path", data, "--max_steps", String(steps), "--warmup_steps", "0"];
  return readRun(join(root, "examples", "gsm8k", "train.yaml"), options);
}

const tinyRun = (steps) => readRun(join(root, "bench", "tiny.yaml"), ["--max_steps", String(steps)]);

/** Runs every contestant `rounds` times, taking turns, with the GEMM peak measured before each round. */
async function takeTurns(names, run, rounds, { env, folder, python, peaks }) {
  const measured = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const gemm = execFileSync(process.execPath, [join(root, "bench", "gemm.mjs")], { env, encoding: "utf8" });
    peaks.push(JSON.parse(gemm));
    for (const name of names) {
      const output = mkdtempSync(join(folder, `${name}-`));
      const result = await measure(contestants[name].command(run, output, python), { env, cwd: root });
      const curve = readCurve(output);
      if (result.stepEnds.length !== curve.length) {
        throw new Error(`${name} printed ${result.stepEnds.length} updates, its state has ${curve.length}`);
      }
      measured[name].push({ ...result, curve });
      rmSync(output, { recursive: true });
      say(
        `${name} ${round + 1}/${rounds}: ${curve.length} updates, ends at ${result.stepEnds.map((s) => s.toFixed(2)).join(", ")} s`,
      );
    }
  }
  return measured;
}

async function main() {
  const options = readOptions();
  if (options.help) return console.log(help);
  const { steps, runs, starts, threads, python, quick } = options;
  const env = { ...process.env, OMP_NUM_THREADS: String(threads), MKL_NUM_THREADS: String(threads) };
  Object.assign(env, { HF_HUB_OFFLINE: "1", TOKENIZERS_PARALLELISM: "false" });
  delete env.NODE_OPTIONS;

  const wantsPython = options.contestants.some((name) => contestants[name].python);
  const versions = wantsPython ? pythonVersions(python, say) : undefined;
  const names = options.contestants.filter((name) => versions || !contestants[name].python);
  const run = quick ? await tinyRun(steps) : await gsm8kRun(options);
  const work = await workload(run.config, steps);

  mkdirSync(results, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), "slimtune-bench-"));
  const peaks = [];
  const turns = { env, folder, python, peaks };
  let started, trained;
  try {
    started = await takeTurns(names, await tinyRun(1), starts, turns);
    trained = await takeTurns(names, run, runs, turns);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }

  const peakGflops = median(peaks.map(({ gflops }) => gflops));
  const columns = names.map((name) => ({
    name,
    title: contestants[name].title,
    summary: summarise(trained[name], started[name], work, peakGflops),
    curve: trained[name][0].curve,
  }));
  const exact = columns.filter(({ name }) => contestants[name].exact);
  const difference = disagreement(exact.map(({ curve }) => curve));
  const { torch_version, cpu_capability } = peaks[0];
  const machine = `${threads} threads of ${cpus()[0].model.trim()} (${cpu_capability}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.versions.node}, LibTorch ${torch_version}`;
  const packages =
    versions &&
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", ");

  const file = join(results, `${new Date().toISOString().replaceAll(":", "-")}.json`);
  const record = { machine, versions, options: { steps, runs, starts, threads, quick }, work, peaks, peakGflops };
  writeFileSync(file, `${JSON.stringify({ ...record, difference, columns, started, trained }, null, 2)}\n`);

  console.log(`\n${machine}${packages ? `; Python with ${packages}` : ""}`);
  console.log(
    `GEMM peak ${peakGflops.toFixed(0)} GFLOP/s; medians of ${runs} runs of ${steps} updates, the first as warm-up`,
  );
  const mean = (key) => Math.round(work.reduce((sum, step) => sum + step[key], 0) / steps);
  console.log(`${mean("tokens")} tokens per update (${mean("labels")} labelled; ${mean("padded")} when padded)\n`);
  console.log(`${figureTable(columns)}\n\n${runTable(columns)}\n\n${curveTable(columns)}\n`);
  console.log(`All measurements: ${relative(process.cwd(), file)}`);
  if (exact.length > 1)
    console.log(`Largest relative difference of any loss or grad_norm: ${difference.toExponential(1)}`);
  if (!(difference <= TOLERANCE)) throw new Error(`the programs did not train the same (more than ${TOLERANCE} apart)`);
}

main().catch((error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
