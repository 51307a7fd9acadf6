import { describe, expect, it } from "vitest";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { EarlyStoppingCallback } from "../callbacks/earlyStopping.js";
import { UserError } from "../support/errors.js";
import { checkEvaluation } from "./evaluationChecks.js";

const stopping = { callbacks: [new EarlyStoppingCallback()] };
const data = { eval_dataset: "eval.jsonl" };
const check = (args: TrainingArgumentsInput, config: Parameters<typeof checkEvaluation>[1]) =>
  checkEvaluation(new TrainingArguments(args), config);

describe("checkEvaluation", () => {
  it.each<[TrainingArgumentsInput, Parameters<typeof checkEvaluation>[1], RegExp]>([
    [{ eval_strategy: "epoch" }, {}, /eval_dataset: eval_strategy is epoch, but there is nothing to evaluate on/],
    [{ eval_on_start: true }, {}, /eval_dataset: eval_on_start is true/],
    [{}, { ...data, ...stopping }, /early_stopping: it needs evaluations/],
    [{ eval_strategy: "epoch" }, { ...data, ...stopping }, /early_stopping: it needs metric_for_best_model/],
    [
      { eval_strategy: "epoch", metric_for_best_model: "f1" },
      data,
      /metric_for_best_model: "f1": no evaluation gives it/,
    ],
  ])("%j is refused", (args, config, message) => {
    expect(() => check(args, config)).toThrow(UserError);
    expect(() => check(args, config)).toThrow(message);
  });

  it.each<[TrainingArgumentsInput, Parameters<typeof checkEvaluation>[1], RegExp | undefined]>([
    [{}, {}, undefined],
    [{ eval_strategy: "epoch" }, data, undefined],
    [{ eval_strategy: "epoch", metric_for_best_model: "f1" }, { ...data, computeMetrics: () => ({}) }, undefined],
    [{}, data, /eval_dataset is not measured in the run: eval_strategy is no/],
    [
      { eval_strategy: "epoch", metric_for_best_model: "loss" },
      { ...data, ...stopping },
      /has the last weights, not the best/,
    ],
    [
      { eval_strategy: "epoch", prediction_loss_only: true },
      { ...data, computeMetrics: () => ({}) },
      /computeMetrics is not called/,
    ],
    [
      { eval_strategy: "epoch", lr_scheduler_type: "reduce_lr_on_plateau", metric_for_best_model: "entropy" },
      data,
      /takes a smaller entropy as better, as in Python; set lr_scheduler_kwargs: \{mode: max\}/,
    ],
    [{ eval_strategy: "epoch", lr_scheduler_type: "greedy" }, data, undefined],
  ])("%j passes, with a note where something is unused", (args, config, note) => {
    const notes = check(args, config);
    expect(notes).toEqual(note === undefined ? [] : [expect.stringMatching(note)]);
  });
});
