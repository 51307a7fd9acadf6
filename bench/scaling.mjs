/**
 * `npm run bench:scaling`: what a token costs as the batch, the length of the rows and the dataset grow sixteen-fold.
 * LoRA on SmolLM2-135M's shape, every row of the same length.
 */
import { parseArgs } from "node:util";
import {
  commonHelp,
  commonOptions,
  describeMachine,
  environment,
  gsm8kFile,
  measureGemm,
  modelFolder,
  runBenchmark,
  say,
  tinyModel,
  wholeNumbers,
  writeResults,
} from "./harness.mjs";
import { inTemporaryFolder, runSlimtune, writeRows } from "./slimtuneRun.mjs";
import { markdownTable } from "./summary.mjs";

const help = `npm run bench:scaling -- [options]
  --quick              the tiny model and short rows: a check of the benchmark in a minute
  --steps N            updates per run, the first of which is warm-up (default 4)
${commonHelp}`;

/** What grows, and the runs in which it does; the same number of tokens in an update where that is not the batch. */
function axes(quick) {
  const unit = quick ? 4 : 64;
  return [
    { title: "batch", runs: [1, 4, 16].map((batch) => ({ value: batch, batch, length: 4 * unit, rows: 100 })) },
    {
      title: "length",
      runs: [1, 4, 16].map((n) => ({ value: n * unit, batch: 32 / n, length: n * unit, rows: 200 })),
    },
    { title: "dataset", runs: [100, 400, 1600].map((rows) => ({ value: rows, batch: 8, length: 4 * unit, rows })) },
  ];
}

async function main() {
  const { values } = parseArgs({ options: { ...commonOptions, steps: { type: "string", default: "4" } } });
  const options = wholeNumbers(values, { steps: 2, threads: 1 });
  if (options.help) return console.log(help);
  const env = environment(options.threads);
  const data = gsm8kFile(options.dataset);
  const model = options.quick ? tinyModel : await modelFolder(options.model, data);
  const peak = measureGemm(env);
  const measured = [];
  await inTemporaryFolder(async (folder) => {
    for (const { title, runs } of axes(options.quick)) {
      for (const { value, batch, length, rows } of runs) {
        const config = {
          model,
          dataset: writeRows(folder, data, { rows, length }),
          lora: { r: 16, lora_alpha: 32, target_modules: "all-linear" },
          training_args: {
            ...{ per_device_train_batch_size: batch, gradient_accumulation_steps: 1, max_steps: options.steps },
            ...{ max_length: length, learning_rate: 2e-4, logging_steps: 1, save_strategy: "no" },
          },
        };
        const run = await runSlimtune(folder, config, { env, profile: true });
        const tokensPerSecond = (batch * length) / run.seconds;
        measured.push({ axis: title, value, batch, length, rows, tokensPerSecond, ...run });
        say(`${title} ${value}: ${tokensPerSecond.toFixed(1)} tokens/s`);
      }
    }
  });
  const cost = (one) => 1 / one.tokensPerSecond;
  const rest = (one) => cost(one) * (1 - one.attention);
  const body = measured.map((one) => {
    const first = measured.find(({ axis }) => axis === one.axis);
    return [
      `${one.axis} ${one.value}`,
      one.tokensPerSecond.toFixed(1),
      (cost(one) / cost(first)).toFixed(2),
      `${(100 * one.attention).toFixed(1)} %`,
      (rest(one) / rest(first)).toFixed(2),
    ];
  });
  const machine = describeMachine(peak);
  const table = markdownTable(["", "tokens/s", "cost per token", "attention", "cost without attention"], body);
  const markdown = `${options.quick ? "tiny model" : "SmolLM2-135M's shape"}, LoRA: ${machine}\n\n${table}`;
  console.log(`\n${markdown}\n`);
  say(`All measurements: ${writeResults("scaling", { machine, peak, measured }, markdown)}`);
}

runBenchmark(main);
