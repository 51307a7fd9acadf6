/** A run that evaluates, resumed from each of its checkpoints, ends as the uninterrupted one: to the last bit. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Trainer, type TrainerConfig, type TrainingArgumentsInput } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";

const DATA = fixturePath("data/prompt-completion.jsonl");
let folder: string;
let evalData: string;
let made = 0;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-eval-resume-"));
  evalData = join(folder, "eval.jsonl");
  writeFileSync(evalData, readFileSync(DATA, "utf8").trim().split("\n").slice(0, 5).join("\n"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const newFolder = () => join(folder, `run-${made++}`);

function trainer(output_dir: string, args: TrainingArgumentsInput, more: Partial<TrainerConfig> = {}): Trainer {
  return new Trainer({
    model: fixturePath("tiny-llama"),
    dataset: DATA,
    eval_dataset: evalData,
    lora: { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: "all-linear" },
    log: () => {},
    ...more,
    training_args: {
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 4,
      num_train_epochs: 2,
      learning_rate: 0.01,
      logging_steps: 1,
      per_device_eval_batch_size: 2,
      save_strategy: "steps",
      save_steps: 1,
      use_cpu: true,
      ...args,
      output_dir,
    },
  });
}

/** What must be the same: the weights, and the state but for what the clock and the folder's place make. */
function outcome(output_dir: string) {
  const state = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  state.best_model_checkpoint &&= basename(state.best_model_checkpoint);
  for (const entry of state.log_history) {
    for (const key of Object.keys(entry)) if (/_runtime$|_per_second$/.test(key)) delete entry[key];
  }
  return { state, weights: readFileSync(join(output_dir, "adapter_model.safetensors")).toString("base64") };
}

const checkpointsOf = (output_dir: string) =>
  readdirSync(output_dir)
    .flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);

/** The run's folder as it was when that checkpoint was its newest. */
function asOf(output_dir: string, step: number): string {
  const copy = newFolder();
  cpSync(output_dir, copy, { recursive: true });
  for (const newer of checkpointsOf(copy).filter((other) => other > step)) {
    rmSync(join(copy, `checkpoint-${newer}`), { recursive: true });
  }
  return copy;
}

describe("resuming a run that evaluates", () => {
  it.each<[string, TrainingArgumentsInput, Partial<TrainerConfig>]>([
    [
      "after every update, with the best model and a rate that follows a metric",
      {
        eval_strategy: "steps",
        eval_steps: 1,
        eval_on_start: true,
        load_best_model_at_end: true,
        metric_for_best_model: "entropy",
        lr_scheduler_type: "reduce_lr_on_plateau",
        lr_scheduler_kwargs: { patience: 0, factor: 0.5, mode: "max" },
      },
      { early_stopping: { patience: 6 } },
    ],
    [
      "after each epoch, which comes after the checkpoint of its last update",
      {
        eval_strategy: "epoch",
        logging_strategy: "epoch",
        lr_scheduler_type: "greedy",
        lr_scheduler_kwargs: { patience: 0, min_lr: 1e-4, factor: 0.5, max_lr: 0.02 },
      },
      {},
    ],
    [
      "until it stopped early",
      {
        num_train_epochs: 6,
        eval_strategy: "steps",
        eval_steps: 2,
        save_steps: 2,
        load_best_model_at_end: true,
        metric_for_best_model: "entropy",
        lr_scheduler_type: "constant",
      },
      { early_stopping: { patience: 1 } },
    ],
  ])("%s", async (_, args, more) => {
    const whole = newFolder();
    await trainer(whole, args, more).train();
    const expected = outcome(whole);
    const steps = checkpointsOf(whole);
    expect(steps.length).toBeGreaterThan(1);
    if (more.early_stopping?.patience === 1) expect(expected.state.global_step).toBeLessThan(expected.state.max_steps);
    for (const step of steps) {
      const copy = asOf(whole, step);
      await trainer(copy, { ...args, resume_from_checkpoint: true }, more).train();
      expect(outcome(copy), `from checkpoint-${step}`).toEqual(expected);
    }
  });

  it.each([0, 2, 3, 6])("stopped during the evaluation at update %s, which is then made again", async (stopAt) => {
    const args: TrainingArgumentsInput = {
      eval_strategy: "epoch", // 3 updates each
      eval_on_start: true,
      ...(stopAt === 2 ? { eval_strategy: "steps" as const, eval_steps: 2 } : {}),
      save_strategy: "no",
    };
    const whole = newFolder();
    await trainer(whole, args).train();
    const stopped = newFolder();
    const first = trainer(stopped, args, {
      callbacks: [
        {
          onPredictionStep: (_args, { global_step }, _control, { batch }) => {
            if (global_step === stopAt && batch === 2) first.requestStop();
          },
        },
      ],
    });
    const output = await first.train();
    expect(output).toMatchObject({ interrupted: true, global_step: stopAt });
    const state = JSON.parse(readFileSync(join(output.checkpoint!, "trainer_state.json"), "utf8"));
    const measured = state.log_history.filter((entry: Record<string, number>) => "eval_loss" in entry);
    expect(measured.map(({ step }: { step: number }) => step)).not.toContain(stopAt);
    await trainer(stopped, { ...args, resume_from_checkpoint: true }).train();
    expect(outcome(stopped)).toEqual(outcome(whole));
  });

  it("with another eval_dataset is refused, without one it goes on", async () => {
    const run = newFolder();
    const args: TrainingArgumentsInput = { eval_strategy: "steps", eval_steps: 2, num_train_epochs: 1 };
    await trainer(run, args).train();
    const other = { eval_dataset: DATA };
    await expect(trainer(asOf(run, 1), { ...args, resume_from_checkpoint: true }, other).train()).rejects.toThrow(
      /eval_dataset gives other tokens than the one it was made with/,
    );
    const without = { ...args, eval_strategy: "no" as const, resume_from_checkpoint: true };
    expect((await trainer(asOf(run, 1), without).train()).global_step).toBe(3);
  });
});
