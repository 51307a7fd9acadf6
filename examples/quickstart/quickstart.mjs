/**
 * `npm run quickstart`: fine-tunes the small base model on the orders in data/train.jsonl and shows what it learned.
 *
 *   npm run quickstart -- [--name value ...]     options override finetune.yaml, as in `slimtune train`
 */
import { readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { loadConfig, parseCommandLine } from "../../dist/config/index.js";
import { loadGenerator, ProgressCallback, Trainer, UserError } from "../../dist/index.js";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const samples = 3;
/** The base model's answers are all alike, so fewer of them tell enough. */
const heldoutBefore = 100;
const longestAnswer = 32; // tokens

const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(0)} s`;
const percent = (part) => `${(100 * part).toFixed(1)} %`;

/** The model's answers, and how many of them are the expected text, character for character. */
async function examine(model, adapter, rows) {
  const generator = await loadGenerator({ model, adapter });
  try {
    const prompts = rows.map(({ prompt }) => prompt);
    const answers = await generator.complete(prompts, { max_new_tokens: longestAnswer });
    const right = answers.filter((answer, i) => answer.trim() === rows[i].completion.trim()).length;
    return { answers, accuracy: right / rows.length };
  } finally {
    generator.dispose();
  }
}

/** One answer on one line of the screen. */
function oneLine(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 84 ? `${line.slice(0, 83)}…` : line;
}

async function main() {
  const start = performance.now();
  process.chdir(root);
  const { config: file, overrides } = parseCommandLine([join(here, "finetune.yaml"), ...process.argv.slice(2)]);
  const config = await loadConfig(file, overrides);
  const output = resolve(config.training_args.output_dir);
  const heldout = readFileSync(join(here, "data", "heldout.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((row) => JSON.parse(row));

  console.log("slimtune quickstart: teach a small language model to write orders down as JSON.\n");
  console.log(`Before  asking the base model ${heldoutBefore} orders that it will not be trained on ...`);
  const before = await examine(config.model, undefined, heldout.slice(0, heldoutBefore));
  console.log(`        ${percent(before.accuracy)} of its answers are right.\n`);

  const training = performance.now();
  const progress = new ProgressCallback();
  try {
    await new Trainer({ ...config, callbacks: [progress] }).train();
  } finally {
    progress.close();
  }
  const trained = seconds(training);

  console.log(`\nAfter   asking the base model with its new adapter ${heldout.length} such orders ...`);
  const after = await examine(config.model, output, heldout);

  for (let i = 0; i < samples; i++) {
    console.log(`\n  ${heldout[i].prompt}`);
    console.log(`    before  ${oneLine(before.answers[i])}`);
    console.log(`    after   ${oneLine(after.answers[i])}`);
  }
  const shown = relative(root, output);
  console.log(`
Right answers on held-out orders, compared exactly
  before fine-tuning   ${percent(before.accuracy).padStart(7)}   of ${heldoutBefore}
  after fine-tuning    ${percent(after.accuracy).padStart(7)}   of ${heldout.length}

Fine-tuning took ${trained}, everything ${seconds(start)}. The adapter is in ${shown}, in PEFT's format.
Try it with an order of your own:

  npx slimtune generate --model ${relative(root, config.model)} --adapter ${shown} \\
    --prompt "Hello, this is Olga from Lima. Can I have a pair of blue boots? JSON:"
`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
