import { describe, expect, it } from "vitest";
import { TrainingArguments } from "../arguments/index.js";
import { newTrainerState } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { newTrainerControl } from "./callbacks.js";
import { EarlyStoppingCallback, type EarlyStoppingOptions } from "./earlyStopping.js";

const args = (more = {}) =>
  new TrainingArguments({ eval_strategy: "epoch", metric_for_best_model: "loss", output_dir: "unused", ...more });

/** After how many evaluations it stops; 0: never. `best` follows the metrics as the loop's does. */
function stopsAfter(metrics: number[], options: EarlyStoppingOptions, callback = new EarlyStoppingCallback(options)) {
  const state = newTrainerState(args(), { max_steps: 99, num_train_epochs: 1, train_batch_size: 1 });
  const control = newTrainerControl();
  for (const [index, value] of metrics.entries()) {
    callback.onEvaluate(args(), state, control, { metrics: { eval_loss: value } });
    if (control.should_training_stop) return index + 1;
    if (state.best_metric === null || value < state.best_metric) state.best_metric = value;
  }
  return 0;
}

describe("EarlyStoppingCallback", () => {
  it.each<[EarlyStoppingOptions, number[], number]>([
    [{}, [3, 2, 1], 0],
    [{}, [3, 2, 2], 3], // equal is not better
    [{ patience: 2 }, [3, 2, 2.5, 1.9, 2, 2], 6], // a better one starts the count anew
    [{ patience: 3 }, [3, 4, 4, 4], 4],
    [{ threshold: 0.5 }, [3, 2.4, 2, 1], 3], // better by 0.4 is not enough
    [{ patience: 2, threshold: 0.5 }, [3, 2.6, 2.3, 2.2], 3], // measured against the best, which moves too
  ])("%j on %j stops after evaluation %s", (options, metrics, expected) => {
    expect(stopsAfter(metrics, options)).toBe(expected);
  });

  it("goes on counting after a resume, with the patience of today", () => {
    const first = new EarlyStoppingCallback({ patience: 3 });
    stopsAfter([1, 2, 2], {}, first);
    const saved = first.saveState();
    expect(saved).toEqual({
      args: { early_stopping_patience: 3, early_stopping_threshold: 0 },
      attributes: { early_stopping_patience_counter: 2 },
    });
    const resumed = new EarlyStoppingCallback({ patience: 2 });
    resumed.loadState(JSON.parse(JSON.stringify(saved)));
    const control = newTrainerControl();
    const state = newTrainerState(args(), { max_steps: 9, num_train_epochs: 1, train_batch_size: 1 });
    resumed.onTrainBegin(args(), state, control);
    expect(control.should_training_stop).toBe(true);
  });

  it("says what it needs", () => {
    const check = (more: object) => () => new EarlyStoppingCallback().check(args(more));
    expect(check({})).not.toThrow();
    expect(check({ eval_strategy: "no" })).toThrow(/early_stopping: it needs evaluations/);
    expect(check({ metric_for_best_model: null })).toThrow(
      /it needs metric_for_best_model; set load_best_model_at_end/,
    );
  });

  it.each<[object, RegExp]>([
    [{ patience: 0 }, /early_stopping\.patience/],
    [{ threshold: -1 }, /early_stopping\.threshold/],
    [{ early_stopping_patience: 1 }, /early_stopping: .*early_stopping_patience/],
  ])("%j is refused", (options, message) => {
    expect(() => new EarlyStoppingCallback(options)).toThrow(UserError);
    expect(() => new EarlyStoppingCallback(options)).toThrow(message);
  });
});
