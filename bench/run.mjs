/**
 * `npm run bench`: one run on GSM8K in slimtune and in Python's trainers, on the same data in the same order, taking
 * turns. Prints medians and ratios as Markdown; writes them and everything measured to bench/results/.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { contestants, pythonVersions, readCurve } from "./contestants.mjs";
import { families } from "./families.mjs";
import {
  commonHelp,
  commonOptions,
  describeMachine,
  environment,
  gsm8kFile,
  measureGemm,
  modelFolder,
  readRun,
  root,
  runBenchmark,
  say,
  wholeNumbers,
  writeResults,
} from "./harness.mjs";
import { measure } from "./measure.mjs";
import { curveTable, disagreement, figureTable, median, summarise, updateTable } from "./summary.mjs";
import { workload } from "./workload.mjs";

/** What is trained, and its config. */
const cases = {
  lora: { title: "LoRA, r = 16, all linear layers", file: join(root, "examples", "gsm8k", "train.yaml") },
  full: { title: "all weights", file: join(root, "bench", "full.yaml") },
};

const help = `npm run bench -- [options]
  --case NAME          what is trained: ${Object.keys(cases).join(" or ")} (default lora)
  --model-family NAME  another architecture: ${Object.keys(families).join(", ")}
  --contestants LIST   of ${Object.keys(contestants).join(", ")}
                       (default: slimtune,trl,transformers)
  --quick              the tiny model only: a check of the harness in a minute
  --steps N            updates per run, the first of which is warm-up (default 3)
  --runs N             runs of each program, taking turns (default 2)
  --starts N           starts of each program with the tiny model (default 3)
  --python PROGRAM     a Python with torch, transformers, peft and trl (default: SLIMTUNE_BENCH_PYTHON, or python3)
${commonHelp}`;

/** The largest relative difference of losses and gradient norms at which two float32 runs count as the same. */
const TOLERANCE = 1e-3;

function readOptions() {
  const text = (fallback) => ({ type: "string", default: fallback });
  const { values } = parseArgs({
    options: {
      ...commonOptions,
      case: text("lora"),
      "model-family": { type: "string" },
      contestants: text("slimtune,trl,transformers"),
      steps: text("3"),
      runs: text("2"),
      starts: text("3"),
      python: text(process.env.SLIMTUNE_BENCH_PYTHON ?? "python3"),
    },
  });
  const names = values.contestants.split(",");
  const wrong = names.find((name) => !Object.hasOwn(contestants, name));
  if (wrong !== undefined) {
    throw new Error(`--contestants ${wrong}: one of ${Object.keys(contestants).join(", ")}`);
  }
  const family = values["model-family"];
  if (family !== undefined && !Object.hasOwn(families, family)) {
    throw new Error(`--model-family ${family}: one of ${Object.keys(families).join(", ")}`);
  }
  if (!Object.hasOwn(cases, values.case)) {
    throw new Error(`--case ${values.case}: one of ${Object.keys(cases).join(", ")}`);
  }
  return wholeNumbers({ ...values, family, contestants: names }, { steps: 2, runs: 1, starts: 1, threads: 1 });
}

async function gsm8kRun({ case: name, dataset, model, family, steps }) {
  const data = gsm8kFile(dataset);
  const folder = await modelFolder(model, data, family);
  // No warm-up of the learning rate: the first update already changes the weights, so every later loss proves something.
  const options = ["--model", folder, "--dataset.path", data, "--max_steps", String(steps), "--warmup_steps", "0"];
  return readRun(cases[name].file, options);
}

const tinyRun = (steps) => readRun(join(root, "bench", "tiny.yaml"), ["--max_steps", String(steps)]);

/** Runs every contestant `rounds` times, taking turns, with the GEMM peak measured before each round. */
async function takeTurns(names, run, rounds, { env, folder, python, peaks }) {
  const measured = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    peaks.push(measureGemm(env));
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
  const env = environment(threads);

  const wantsPython = options.contestants.some((name) => contestants[name].python);
  const versions = wantsPython ? pythonVersions(python, say) : undefined;
  const names = options.contestants.filter((name) => versions || !contestants[name].python);
  const run = quick ? await tinyRun(steps) : await gsm8kRun(options);
  const work = await workload(run.config, steps);

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
  const machine = describeMachine(peaks[0]);
  const packages = Object.entries(versions ?? {}).map(([name, version]) => `${name} ${version}`);
  const title = quick
    ? "tiny model, LoRA"
    : `${options.family ? `${options.family}: ` : ""}${cases[options.case].title}`;
  const shapes = peaks[0].shapes.map(
    ({ shape }, i) => `${median(peaks.map((one) => one.shapes[i].gflops)).toFixed(0)} at ${shape}`,
  );
  const mean = (key) => Math.round(work.reduce((sum, step) => sum + step[key], 0) / steps);
  const markdown = [
    `${title}: ${machine}${packages.length ? `; Python with ${packages.join(", ")}` : ""}`,
    `GEMM peak ${peakGflops.toFixed(0)} GFLOP/s (${shapes.join(", ")}); ${runs} runs of ${steps} updates, the first as warm-up; medians over updates`,
    `${mean("tokens")} tokens per update (${mean("labels")} labelled; ${mean("padded")} when padded)`,
    figureTable(columns),
    updateTable(columns),
    curveTable(columns),
    ...(exact.length > 1
      ? [`Largest relative difference of any loss or grad_norm: ${difference.toExponential(1)}`]
      : []),
  ].join("\n\n");
  const given = { case: options.case, steps, runs, starts, threads, quick };
  const record = { machine, versions, options: given, work, peaks, peakGflops, difference, columns, started, trained };
  const file = writeResults(quick ? "quick" : options.case, record, markdown);
  console.log(`\n${markdown}\n\nAll measurements: ${relative(process.cwd(), file)}`);
  if (!(difference <= TOLERANCE)) throw new Error(`the programs did not train the same (more than ${TOLERANCE} apart)`);
}

runBenchmark(main);
