/**
 * `npm run bench:memory`: peak memory and seconds per update of one model in each way to train it: precision, LoRA,
 * quantized weights, optimizers, paged states under a tight budget, gradient checkpointing.
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
import { gigabytes, markdownTable } from "./summary.mjs";

const help = `npm run bench:memory -- [options]
  --quick              the tiny model and short rows: a check of the benchmark in a minute
  --only TEXT          only the rows of the table whose title has this text
  --steps N            updates per run, the first of which is warm-up (default 3)
${commonHelp}`;

const LORA = { lora: { r: 16, lora_alpha: 32, target_modules: "all-linear" } };
const ROWS = 64;

const full = (title, training_args = {}) => ({ title: `all weights, ${title}`, config: { training_args } });
const lora = (title, training_args = {}, config = {}) => ({
  title: `LoRA, ${title}`,
  config: { ...LORA, ...config, training_args },
});
const qlora = (title, quantization) => lora(title, {}, { quantization });

/** @param budget of the paged optimizers' states: far too small for them */
function cases(budget) {
  const paged = (optim) => full(`${optim}, page_budget=${budget}`, { optim, optim_args: `page_budget=${budget}` });
  const long = { per_device_train_batch_size: 1, gradient_accumulation_steps: 1 };
  const longRow = (make, title, args) => ({ ...make(`one long row, ${title}`, { ...long, ...args }), long: true });
  const checkpointed = { gradient_checkpointing: true };
  const everySecond = { ...checkpointed, gradient_checkpointing_kwargs: { every_n_layers: 2 } };
  return [
    lora("float32"),
    lora("bf16", { bf16: true }),
    lora("fp16", { fp16: true }),
    qlora("nf4", { load_in_4bit: true, bnb_4bit_quant_type: "nf4" }),
    qlora("nf4, double quantization", {
      load_in_4bit: true,
      bnb_4bit_quant_type: "nf4",
      bnb_4bit_use_double_quant: true,
    }),
    qlora("fp4", { load_in_4bit: true, bnb_4bit_quant_type: "fp4" }),
    qlora("int8", { load_in_8bit: true }),
    full("float32, adamw_torch", { optim: "adamw_torch" }),
    full("bf16, adamw_torch", { optim: "adamw_torch", bf16: true }),
    ...["adamw_8bit", "lion_32bit", "lion_8bit", "ademamix", "ademamix_8bit", "adafactor", "adagrad", "rmsprop"].map(
      (optim) => full(optim, { optim }),
    ),
    full("rmsprop_bnb_8bit", { optim: "rmsprop_bnb_8bit" }),
    full("sgd", { optim: "sgd" }),
    full("paged_adamw_32bit, no budget", { optim: "paged_adamw_32bit" }),
    ...["paged_adamw_32bit", "paged_adamw_8bit", "paged_lion_32bit"].map(paged),
    ...[full, lora].flatMap((make) => [
      longRow(make, "no checkpointing", {}),
      longRow(make, "gradient_checkpointing", checkpointed),
      longRow(make, "gradient_checkpointing, every_n_layers: 2", everySecond),
    ]),
  ];
}

async function main() {
  const { values } = parseArgs({
    options: { ...commonOptions, only: { type: "string", default: "" }, steps: { type: "string", default: "3" } },
  });
  const options = wholeNumbers(values, { steps: 2, threads: 1 });
  if (options.help) return console.log(help);
  const { quick, steps } = options;
  const env = environment(options.threads);
  const data = gsm8kFile(options.dataset);
  const model = quick ? tinyModel : await modelFolder(options.model, data);
  const lengths = quick ? { short: 16, long: 64 } : { short: 256, long: 1024 };
  const measured = [];
  const chosen = cases(quick ? "1MiB" : "64MiB").filter(({ title }) => title.includes(options.only));
  await inTemporaryFolder(async (folder) => {
    for (const { title, config, long = false } of chosen) {
      const length = long ? lengths.long : lengths.short;
      const training_args = {
        ...{ per_device_train_batch_size: 2, gradient_accumulation_steps: 1, max_steps: steps, max_length: length },
        ...{ learning_rate: 1e-5, logging_steps: 1, save_strategy: "no", ...config.training_args },
      };
      const dataset = writeRows(folder, data, { rows: ROWS, length });
      const run = await runSlimtune(folder, { model, dataset, ...config, training_args }, { env });
      measured.push({ title, length, ...run });
      say(`${title}: ${gigabytes(run.peakBytes)}, ${run.seconds.toFixed(2)} s`);
    }
  });
  const machine = describeMachine(measureGemm(env));
  const body = measured.map(({ title, peakBytes, peakAnonymousBytes, seconds }) => [
    title,
    gigabytes(peakBytes),
    gigabytes(peakAnonymousBytes),
    seconds.toFixed(2),
  ]);
  const table = markdownTable(["", "peak memory", "of it no mapped file", "seconds per update"], body);
  const where = quick ? "tiny model" : "SmolLM2-135M's shape";
  const rows = `2 rows of ${lengths.short} tokens in an update, or one long row of ${lengths.long}`;
  const markdown = `${where}, ${rows}: ${machine}\n\n${table}`;
  console.log(`\n${markdown}\n`);
  say(`All measurements: ${writeResults("memory", { machine, measured }, markdown)}`);
}

runBenchmark(main);
