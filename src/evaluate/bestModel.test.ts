import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { newTrainerState } from "../runFolder/state.js";
import { bestCheckpoint, checkMetric, findBestCheckpoint, metricOf, noteBest } from "./bestModel.js";

const make = (more: TrainingArgumentsInput) => new TrainingArguments({ eval_strategy: "epoch", ...more });
const newState = () => newTrainerState(make({}), { max_steps: 9, num_train_epochs: 1, train_batch_size: 1 });

describe("the best evaluation", () => {
  it("is the strictly smallest or largest", () => {
    const state = newState();
    const loss = make({ metric_for_best_model: "eval_loss" });
    const better = [3, 2, 2, 2.5, 1].map((value) => {
      state.global_step++;
      return noteBest(state, value, loss);
    });
    expect(better).toEqual([true, true, false, false, true]);
    expect(state).toMatchObject({ best_metric: 1, best_global_step: 5 });

    const accuracy = make({ metric_for_best_model: "mean_token_accuracy" });
    const other = newState();
    expect([0.1, 0.3, 0.3, 0.2].map((value) => noteBest(other, value, accuracy))).toEqual([true, true, false, false]);
  });

  it("has no step of its own when nothing is saved", () => {
    const state = newState();
    noteBest(state, 1, make({ metric_for_best_model: "loss", save_strategy: "no" }));
    expect(state).toMatchObject({ best_metric: 1, best_global_step: null });
  });

  it("reads a metric with and without its prefix, and names those that there are", () => {
    const metrics = { eval_loss: 2, eval_f1: 0.5 };
    expect(metricOf(metrics, make({}))).toBeUndefined();
    expect(metricOf(metrics, make({ metric_for_best_model: "f1" }))).toBe(0.5);
    expect(metricOf(metrics, make({ metric_for_best_model: "eval_loss" }))).toBe(2);
    expect(() => metricOf(metrics, make({ metric_for_best_model: "f2" }))).toThrow(
      /has no eval_f2 \(did you mean "eval_f1"\?\); it has eval_loss, eval_f1/,
    );
  });

  it("is refused before anything is loaded when no evaluation can give it", () => {
    const accuracy = make({ metric_for_best_model: "mean_token_acuracy" });
    expect(() => checkMetric(accuracy, false)).toThrow(
      /no evaluation gives it \(did you mean "mean_token_accuracy"\?\)/,
    );
    expect(() => checkMetric(accuracy, true)).not.toThrow(); // a metric function may
    const lossOnly = make({ metric_for_best_model: "entropy", prediction_loss_only: true });
    expect(() => checkMetric(lossOnly, true)).toThrow(/prediction_loss_only leaves it out/);
    expect(() => checkMetric(make({ metric_for_best_model: "eval_perplexity" }), false)).not.toThrow();
  });
});

describe("its checkpoint", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "slimtune-best-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("is the one being saved, an earlier one, or none", async () => {
    const state = newState();
    const best = (saving: number, asked: number[] = []) => bestCheckpoint(state, folder, saving, asked);
    expect(await best(4)).toBeUndefined();
    state.best_global_step = 4;
    expect(await best(6)).toBeUndefined(); // the best update was never saved
    expect(await best(4)).toBe(join(folder, "checkpoint-4"));
    mkdirSync(join(folder, "checkpoint-2"));
    state.best_global_step = 2;
    expect(await best(6)).toBe(join(folder, "checkpoint-2"));
    expect(await best(6, [2]), "it is there only because someone asked for it").toBeUndefined();
  });

  it("is found again in an output_dir that moved", async () => {
    const state = { ...newState(), best_model_checkpoint: "/elsewhere/checkpoint-2" };
    expect(await findBestCheckpoint(state, folder)).toBeNull();
    mkdirSync(join(folder, "checkpoint-2"));
    expect(await findBestCheckpoint(state, folder)).toBe(join(folder, "checkpoint-2"));
  });
});
