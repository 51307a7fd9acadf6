/** Evaluation against transformers, PEFT and TRL: eval_loss, runs that evaluate, the best model, early stopping. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type {
  EvaluatedExample,
  LoraConfig,
  PromptCompletionRow,
  TrainerConfig,
  TrainingArgumentsInput,
} from "../src/index.js";
import { evaluateModel, Trainer } from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath, readGoldenJson, readTensors } from "./support/goldens.js";

const MODEL = fixturePath("tiny-llama");
const DATA = fixturePath("data/prompt-completion.jsonl");

const folders: string[] = [];
function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-eval-"));
  folders.push(folder);
  return folder;
}

afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

const difference = (actual: number, expected: number) =>
  Math.abs(actual - expected) / Math.max(Math.abs(expected), 1e-12);

/** Python's numbers: means of each batch's mean, weighted by its examples (eval_loss) or not (TRL's accuracy). */
function meanOfBatches(
  examples: readonly EvaluatedExample[],
  size: number,
  what: (example: EvaluatedExample) => number,
  byExamples: boolean,
): number {
  let sum = 0;
  let weight = 0;
  for (let start = 0; start < examples.length; start += size) {
    const batch = examples.slice(start, start + size);
    const tokens = batch.reduce((count, { labels }) => count + labels.filter((label) => label !== -100).length, 0);
    const share = byExamples ? batch.length : 1;
    sum += (share * batch.reduce((total, example) => total + what(example), 0)) / tokens;
    weight += share;
  }
  return sum / weight;
}

const lossOf = ({ losses }: EvaluatedExample) => losses.reduce((sum, loss) => sum + loss, 0);
const hitsOf = ({ labels, predictions }: EvaluatedExample) =>
  labels.filter((label, i) => label !== -100 && label === predictions[i]).length;

describe("eval_loss", () => {
  interface Golden {
    by_batch_size: { batch_size: number; eval_loss: number; eval_entropy: number; eval_mean_token_accuracy: number }[];
  }
  const golden = readGoldenJson<Golden>("eval-loss.json").by_batch_size;

  it.each(golden)("batch size $batch_size: Python's from our tokens, ours the same for every size", async (python) => {
    let examples: readonly EvaluatedExample[] = [];
    const metrics = await evaluateModel({
      model: MODEL,
      dataset: DATA,
      training_args: { per_device_eval_batch_size: python.batch_size },
      computeMetrics: (context) => {
        examples = context.examples;
        return {};
      },
    });
    const { batch_size: size } = python;
    expect(difference(meanOfBatches(examples, size, lossOf, true), python.eval_loss)).toBeLessThan(1e-4);
    expect(meanOfBatches(examples, size, hitsOf, false)).toBeCloseTo(python.eval_mean_token_accuracy, 6);
    const whole = golden.at(-1)!;
    expect(examples.length).toBeLessThanOrEqual(whole.batch_size); // so Python's mean there is over all tokens
    expect(difference(metrics.eval_loss!, whole.eval_loss)).toBeLessThan(1e-4);
    expect(difference(metrics.eval_entropy!, whole.eval_entropy)).toBeLessThan(1e-4);
    expect(metrics.eval_perplexity).toBeCloseTo(Math.exp(metrics.eval_loss!), 9);
  });
});

interface RunGolden {
  eval_rows: number;
  lora: LoraConfig;
  early_stopping?: { early_stopping_patience: number; early_stopping_threshold?: number } | null;
  args: TrainingArgumentsInput;
  log_history: Record<string, number>[];
  state?: { global_step: number; best_metric: number; best_global_step: number; best_model_checkpoint: string };
  folders?: string[];
  final?: Record<string, [number, number]>;
}

async function train(golden: RunGolden, more: Partial<TrainerConfig> = {}) {
  const folder = makeFolder();
  const rows = readFileSync(DATA, "utf8").trim().split("\n");
  const eval_dataset = join(folder, "eval.jsonl");
  writeFileSync(eval_dataset, rows.slice(0, golden.eval_rows).join("\n"));
  const stopping = golden.early_stopping;
  const output_dir = join(folder, "out");
  await new Trainer({
    model: MODEL,
    dataset: DATA,
    eval_dataset,
    lora: golden.lora,
    early_stopping: stopping
      ? { patience: stopping.early_stopping_patience, threshold: stopping.early_stopping_threshold }
      : undefined,
    training_args: { logging_steps: 1, save_strategy: "no", use_cpu: true, ...golden.args, output_dir },
    log: () => {},
    ...more,
  }).train();
  return { output_dir, state: JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8")) };
}

/** Every figure of every entry that both have, but those in which the two count differently. */
function compare(actual: Record<string, number>[], expected: Record<string, number>[], keys: string[]): void {
  expect(actual.map(({ step }) => step)).toEqual(expected.map(({ step }) => step));
  for (const [index, entry] of expected.entries()) {
    for (const key of keys) {
      expect(key in actual[index]!, `${key} in entry ${index}`).toBe(key in entry);
      if (!(key in entry)) continue;
      const [ours, python] = [actual[index]![key]!, entry[key]!];
      expect(difference(ours, python), `${key} of entry ${index}: ${ours}, Python has ${python}`).toBeLessThan(1e-4);
    }
  }
}

const TRAINING = ["loss", "grad_norm", "learning_rate", "epoch", "step", "train_loss", "total_flos"];
const MEASURED = ["eval_loss", "eval_entropy", "eval_mean_token_accuracy", "eval_num_tokens"];

describe("runs that evaluate follow Python's", () => {
  it("in several batches", async () => {
    const golden = readGoldenJson<RunGolden>("eval-run.json");
    const size = golden.args.per_device_eval_batch_size!;
    const { state } = await train(golden, {
      computeMetrics: ({ examples }) => ({
        python_loss: meanOfBatches(examples, size, lossOf, true),
        python_accuracy: meanOfBatches(examples, size, hitsOf, false),
      }),
    });
    compare(state.log_history, golden.log_history, [...TRAINING, "eval_num_tokens"]);
    for (const [index, entry] of golden.log_history.entries()) {
      if (entry.eval_loss === undefined) continue;
      const actual = state.log_history[index];
      expect(difference(actual.eval_python_loss, entry.eval_loss)).toBeLessThan(1e-4);
      expect(actual.eval_python_accuracy).toBeCloseTo(entry.eval_mean_token_accuracy!, 6);
    }
  });

  const runs = readGoldenJson<Record<string, RunGolden>>("eval-runs.json");

  it.each(Object.keys(runs))("%s", async (name) => {
    const golden = runs[name]!;
    const { output_dir, state } = await train(golden);
    compare(state.log_history, golden.log_history, [...TRAINING, ...MEASURED]);
    const expected = golden.state!;
    expect(state.global_step).toBe(expected.global_step);
    expect(state.best_global_step).toBe(expected.best_global_step);
    if (expected.best_metric === null) expect(state.best_metric).toBeNull();
    else expect(difference(state.best_metric, expected.best_metric)).toBeLessThan(1e-4);
    expect(state.best_model_checkpoint && basename(state.best_model_checkpoint)).toBe(expected.best_model_checkpoint);
    const checkpoints = readdirSync(output_dir).filter((entry) => entry.startsWith("checkpoint-"));
    expect(checkpoints.sort()).toEqual(golden.folders!);
    const adapter = readTensors(join(output_dir, "adapter_model.safetensors"));
    for (const [parameter, [, norm]] of Object.entries(golden.final!)) {
      const values = (await adapter).get(parameter)!.values as Float32Array;
      const actual = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
      expect(difference(actual, norm), parameter).toBeLessThan(1e-3);
    }
    if (golden.args.load_best_model_at_end) {
      const best = join(output_dir, expected.best_model_checkpoint, "adapter_model.safetensors");
      expect(existsSync(best)).toBe(true);
      expect(readFileSync(best).equals(readFileSync(join(output_dir, "adapter_model.safetensors")))).toBe(true);
    }
  });
});

describe("a Trainer before, in and after its run follows Python's", () => {
  interface SetsGolden {
    lora: LoraConfig;
    args: TrainingArgumentsInput;
    sets: Record<string, [number, number]>;
    before: Record<string, number>;
    log_history: Record<string, number>[];
    after: Record<string, number>;
    predict: Record<string, number>;
    best_metric: number;
  }

  it("with evaluation sets by name, which shift dropout's masks as evaluations there do", async () => {
    const golden = readGoldenJson<SetsGolden>("eval-sets.json");
    const rows: PromptCompletionRow[] = readFileSync(DATA, "utf8")
      .trim()
      .split("\n")
      .map((row) => JSON.parse(row));
    const eval_dataset = Object.fromEntries(
      Object.entries(golden.sets).map(([name, [start, end]]) => [name, rows.slice(start, end)]),
    );
    const output_dir = join(makeFolder(), "out");
    const common = { logging_steps: 1, save_strategy: "no", use_cpu: true } as const;
    using trainer = new Trainer({
      model: MODEL,
      dataset: rows,
      eval_dataset,
      lora: golden.lora,
      training_args: { ...common, ...golden.args, output_dir },
      log: () => {},
    });
    const near = (actual: Record<string, number>, expected: Record<string, number>) => {
      for (const [name, python] of Object.entries(expected)) {
        if (/_loss$/.test(name)) expect(difference(actual[name]!, python), name).toBeLessThan(1e-4);
      }
    };
    near(await trainer.evaluate(), golden.before);
    await trainer.train();
    const history = [...trainer.state.log_history];
    compare(history, golden.log_history, [...TRAINING, "eval_first_loss", "eval_rest_loss"]);
    expect(difference(trainer.state.best_metric!, golden.best_metric)).toBeLessThan(1e-4);
    near(await trainer.evaluate(), golden.after);
    near((await trainer.predict(eval_dataset.first!)).metrics, golden.predict);
  });
});
