/** What a Trainer can be asked besides training: before it, after it, and how it ends. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  defineConfig,
  evaluateModel,
  loadGenerator,
  ProgressCallback,
  Trainer,
  type TrainerConfig,
  type TrainingArgumentsInput,
  UserError,
} from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { fixturePath } from "./support/goldens.js";
import { tinyConfig } from "./support/tinyRun.js";

const DATA = fixturePath("data/prompt-completion.jsonl");
const CHAT = fixturePath("data/messages.jsonl");
const MODEL = fixturePath("tiny-llama");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-api-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

const out = () => join(folder, "out");
const make = (args: TrainingArgumentsInput = {}, more: Partial<TrainerConfig> = {}) =>
  new Trainer(tinyConfig(out(), { max_steps: 2, ...args }, { eval_dataset: DATA, ...more }));

/** Metrics without what the clock makes. */
const fixed = (metrics: Record<string, number>) =>
  Object.fromEntries(Object.entries(metrics).filter(([name]) => !/runtime|per_second|num_tokens|epoch/.test(name)));

const options = { use_cpu: true, bf16: false } as const;

describe("after training", () => {
  it("measures, predicts, answers and saves the model that was trained", async () => {
    using trainer = make();
    await trainer.train();
    const saved = { model: MODEL, adapter: out(), dataset: DATA, training_args: options, log: () => {} };
    const expected = await evaluateModel(saved);
    const metrics = await trainer.evaluate();
    expect(fixed(metrics)).toEqual(fixed(expected));
    expect(metrics).toMatchObject({ epoch: trainer.state.epoch });
    expect(trainer.state.log_history.at(-1)).toMatchObject({ step: 2, eval_loss: expected.eval_loss });

    const { examples, metrics: tested } = await trainer.predict(DATA);
    expect(tested.test_loss).toBe(expected.eval_loss);
    expect(examples).toHaveLength(21);
    const measured = examples.flatMap(({ labels, predictions }) =>
      [...labels].flatMap((label, i) => (label === -100 ? [] : [label === predictions[i]])),
    );
    const right = measured.filter(Boolean).length;
    expect(tested.test_mean_token_accuracy).toBeCloseTo(right / measured.length, 12);

    const generator = await trainer.generator();
    const answers = await generator.complete(["Hello"], { max_new_tokens: 5 });
    generator.dispose(); // the model stays the trainer's
    const loaded = await loadGenerator({ model: MODEL, adapter: out(), use_cpu: true });
    expect(answers).toEqual(await loaded.complete(["Hello"], { max_new_tokens: 5 }));
    loaded.dispose();

    await trainer.saveModel(join(folder, "copy"));
    expect(fixed(await evaluateModel({ ...saved, adapter: join(folder, "copy") }))).toEqual(fixed(expected));
    expect(fixed(await trainer.evaluate())).toEqual(fixed(expected));
  });

  it("has the weights of the best evaluation, where those were asked for", async () => {
    const best = { eval_strategy: "steps", eval_steps: 1, save_strategy: "steps", save_steps: 1 } as const;
    using trainer = make({ ...best, load_best_model_at_end: true, max_steps: 3, learning_rate: 3 });
    await trainer.train();
    const { best_metric } = trainer.state;
    expect((await trainer.evaluate()).eval_loss).toBeCloseTo(best_metric!, 6);
  });

  it("is told by the user's callbacks, and leaves the run's files alone", async () => {
    const events: string[] = [];
    const callbacks = [
      { onEvaluate: () => void events.push("evaluate"), onPredict: () => void events.push("predict") },
    ];
    using trainer = make({}, { callbacks });
    await trainer.train();
    expect(events).toEqual([]);
    const files = readdirSync(out()).sort();
    await trainer.evaluate([{ path: DATA, max_samples: 3 }], { metric_key_prefix: "mine" });
    await trainer.predict(DATA);
    expect(events).toEqual(["evaluate", "predict"]);
    expect(readdirSync(out()).sort()).toEqual(files);
    expect(trainer.state.log_history.at(-1)).toHaveProperty("mine_loss");
  });

  it("has no model once it is disposed of, or failed", async () => {
    const trainer = make();
    await trainer.train();
    trainer.dispose();
    await expect(trainer.generator()).rejects.toThrow(/was disposed of/);
    const failing = new Trainer(tinyConfig(join(folder, "bad"), {}, { dataset: join(folder, "none.jsonl") }));
    await expect(failing.train()).rejects.toThrow(/none\.jsonl/);
    await expect(failing.evaluate(DATA)).rejects.toThrow(/disposed of|failed/);
  });
});

describe("before and during training", () => {
  it("measures the base, and then trains as if nothing had been asked but a number drawn", async () => {
    using plain = make({ eval_on_start: true }, { lora: { r: 4, lora_dropout: 0.3, target_modules: "all-linear" } });
    await plain.train();
    rmSync(out(), { recursive: true });
    using asked = make({}, { lora: { r: 4, lora_dropout: 0.3, target_modules: "all-linear" } });
    const base = await asked.evaluate();
    expect(existsSync(out())).toBe(false);
    const generator = await asked.generator();
    await generator.complete(["a"], { do_sample: true, max_new_tokens: 4 });
    await asked.train();
    const losses = (trainer: Trainer) => trainer.state.log_history.flatMap(({ loss }) => loss ?? []);
    expect(losses(asked)).toEqual(losses(plain));
    expect(base.eval_loss).toBe(plain.state.log_history[0]!.eval_loss);
  });

  it("refuses what cannot be while the run goes on", async () => {
    using trainer = make();
    const training = trainer.train();
    await expect(trainer.evaluate()).rejects.toThrow(/evaluate\(\): the run is going on.*evaluateNow\(\)/);
    await expect(trainer.saveModel()).rejects.toThrow(/saveNow\(\)/);
    trainer.dispose(); // takes effect when the run is over
    await training;
    await expect(trainer.predict(DATA)).rejects.toThrow(/disposed of/);
  });

  it("says that there is nothing to evaluate on", async () => {
    using trainer = make({}, { eval_dataset: undefined });
    await expect(trainer.evaluate()).rejects.toThrow(/nothing to evaluate on/);
    expect(await trainer.evaluate(DATA)).toHaveProperty("eval_loss");
  });

  it("rejects when it was told to stop before its start, and leaves nothing", async () => {
    const controller = new AbortController();
    controller.abort(new Error("not today"));
    using trainer = make();
    await expect(trainer.train({ signal: controller.signal })).rejects.toThrow("not today");
    using stopped = make();
    const training = stopped.train();
    stopped.requestStop();
    await expect(training).rejects.toMatchObject({ name: "AbortError" });
    expect(existsSync(out())).toBe(false);
  });

  it("keeps a folder that a model came from", async () => {
    using trainer = make();
    await expect(trainer.saveModel(MODEL)).rejects.toThrow(/is the folder that the model came from/);
  });
});

describe("several evaluation sets", () => {
  it("are measured and logged by name, and one decides", async () => {
    const eval_dataset = { chat: CHAT, short: { path: DATA, max_samples: 5 }, mine: [{ text: "a b c" }] };
    const args = { eval_strategy: "steps", eval_steps: 1, metric_for_best_model: "short_loss" } as const;
    using trainer = make(args, { eval_dataset });
    await trainer.train();
    const entries = trainer.state.log_history.filter((entry) => Object.keys(entry).some((key) => /^eval_/.test(key)));
    expect(entries.map((entry) => Object.keys(entry).find((key) => key.endsWith("_loss")))).toEqual(
      [1, 2].flatMap(() => ["eval_chat_loss", "eval_short_loss", "eval_mine_loss"]),
    );
    const short = entries.flatMap(({ eval_short_loss }) => eval_short_loss ?? []);
    expect(trainer.state.best_metric).toBe(Math.min(...short));
    const all = await trainer.evaluate();
    expect(all).toMatchObject({ eval_short_loss: short.at(-1), eval_chat_loss: expect.any(Number) });
    const other = await trainer.evaluate({ twice: { path: DATA, max_samples: 5 } });
    expect(other.eval_twice_loss).toBe(short.at(-1));
  });

  it("names the metric that is needed, and the set of a bad row", async () => {
    const eval_dataset = { a: DATA, b: [{ prompt: "x", completion: 1 }] } as unknown as TrainerConfig["eval_dataset"];
    const args = { eval_strategy: "steps" } as const;
    expect(() => make({ ...args, metric_for_best_model: "loss" }, { eval_dataset })).toThrow(
      /"loss": eval_dataset names several datasets, and one of them decides: a_loss, b_loss/,
    );
    using trainer = make(args, { eval_dataset });
    await expect(trainer.train()).rejects.toThrow(/^eval_dataset\.b\[0\]: "completion" must be a text/);
  });
});

describe("compute_metrics", () => {
  it("is computeMetrics, with transformers' names for what it gets", async () => {
    const compute_metrics: TrainerConfig["compute_metrics"] = ({ predictions, label_ids }) => ({
      rows: predictions.length,
      fits: predictions.every((row, i) => row.length === label_ids[i]!.length) ? 1 : 0,
    });
    using trainer = make({}, { compute_metrics });
    expect(await trainer.evaluate()).toMatchObject({ eval_rows: 21, eval_fits: 1 });
    expect(() => make({}, { compute_metrics, computeMetrics: compute_metrics })).toThrow(/both are given/);
  });
});

describe("progress", () => {
  const shown = async (args: TrainingArgumentsInput, more: Partial<TrainerConfig>) => {
    const write = vi.spyOn(process.stdout, "write").mockImplementation(() => true);
    const tell = vi.spyOn(process.stderr, "write").mockImplementation(() => true);
    try {
      using trainer = make(args, { log: undefined, ...more });
      await trainer.train();
      return write.mock.calls.map(([text]) => String(text)).filter((text) => /loss/.test(text)).length;
    } finally {
      write.mockRestore();
      tell.mockRestore();
      rmSync(out(), { recursive: true });
    }
  };

  it("is shown unless it is turned off, or lines go elsewhere", async () => {
    expect(await shown({}, {})).toBe(3);
    expect(await shown({ disable_tqdm: true }, {})).toBe(0);
    expect(await shown({}, { log: () => {} })).toBe(0);
    expect(await shown({}, { callbacks: [new ProgressCallback()] })).toBe(3);
  });
});

describe("a config in a program", () => {
  it("is checked for keys that nobody reads", () => {
    const wrong = { ...tinyConfig(out()), eval_datasets: DATA } as TrainerConfig;
    expect(() => new Trainer(wrong)).toThrow(/^eval_datasets: unknown key \(did you mean "eval_dataset"\?\)/);
  });

  it("has all that is wrong in issues", () => {
    const wrong = {
      model: MODEL,
      dataset: DATA,
      lora: { r: -1 },
      eval_split: 3.5,
      training_args: { optim: "adamw", learning_rate: -1 },
    };
    const error = (() => {
      try {
        return defineConfig(wrong as TrainerConfig);
      } catch (reason) {
        return reason;
      }
    })();
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).code).toBe("invalid_config");
    expect((error as UserError).issues.map(({ path }) => path)).toEqual([
      "training_args.optim",
      "training_args.learning_rate",
      "lora.r",
      "eval_split",
    ]);
    const right = { model: MODEL, dataset: DATA };
    expect(defineConfig(right)).toBe(right);
  });
});
