import { describe, expect, it } from "vitest";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { newTrainerState } from "../runFolder/state.js";
import {
  CallbackHandler,
  type CallbackState,
  DefaultFlowCallback,
  newTrainerControl,
  type TrainerCallback,
  type TrainerControl,
} from "./callbacks.js";

/** Runs the flow over `steps_per_epoch` × `epochs` updates; gives the updates that log, evaluate, save and end the run. */
async function flow(input: TrainingArgumentsInput, { stepsPerEpoch = 4, maxSteps = 8 } = {}) {
  const args = new TrainingArguments(input);
  const num_train_epochs = Math.ceil(maxSteps / stepsPerEpoch);
  const state = newTrainerState(args, { max_steps: maxSteps, num_train_epochs, train_batch_size: 8 });
  const handler = new CallbackHandler([new DefaultFlowCallback()]);
  const happened = { log: [] as number[], evaluate: [] as number[], save: [] as number[], stop: [] as number[] };
  let control = newTrainerControl();
  const note = async () => {
    if (control.should_log) {
      happened.log.push(state.global_step);
      control = await handler.call("onLog", args, state, control, { logs: {} });
    }
    if (control.should_evaluate) {
      happened.evaluate.push(state.global_step);
      control = await handler.call("onEvaluate", args, state, control, { metrics: {} });
    }
    if (control.should_save) {
      happened.save.push(state.global_step);
      control = await handler.call("onSave", args, state, control, { checkpoint: "" });
    }
  };
  while (!control.should_training_stop) {
    control = await handler.call("onEpochBegin", args, state, control, {});
    for (let i = 0; i < stepsPerEpoch && !control.should_training_stop; i++) {
      control = await handler.call("onStepBegin", args, state, control, {});
      state.global_step++;
      state.epoch = state.global_step / stepsPerEpoch;
      control = await handler.call("onStepEnd", args, state, control, {});
      await note();
    }
    control = await handler.call("onEpochEnd", args, state, control, {});
    await note();
  }
  happened.stop.push(state.global_step);
  return happened;
}

describe("DefaultFlowCallback", () => {
  it.each<[TrainingArgumentsInput, { log: number[]; save: number[] }]>([
    // The last update is always saved with save_strategy steps, and logged only where it is due.
    [
      { logging_steps: 3, save_steps: 5 },
      { log: [3, 6], save: [5, 8] },
    ],
    [
      { logging_steps: 3, save_steps: 4, logging_first_step: true },
      { log: [1, 3, 6], save: [4, 8] },
    ],
    [{}, { log: [], save: [8] }],
    [
      { logging_steps: 0.25, save_steps: 0.3 },
      { log: [2, 4, 6, 8], save: [3, 6, 8] },
    ],
    [
      { logging_strategy: "epoch", save_strategy: "epoch" },
      { log: [4, 8], save: [4, 8] },
    ],
    [
      { logging_strategy: "no", save_strategy: "no" },
      { log: [], save: [] },
    ],
    [
      { logging_strategy: "no", logging_first_step: true, save_strategy: "no" },
      { log: [1], save: [] },
    ],
    [
      { logging_steps: 1, save_steps: 0 },
      { log: [1, 2, 3, 4, 5, 6, 7, 8], save: [8] },
    ],
  ])("%j logs and saves after %j", async (input, expected) => {
    expect(await flow(input)).toEqual({ ...expected, evaluate: [], stop: [8] });
  });

  it("saves an epoch that max_steps cuts short", async () => {
    const happened = await flow(
      { logging_strategy: "epoch", save_strategy: "epoch" },
      { stepsPerEpoch: 4, maxSteps: 6 },
    );
    expect(happened).toEqual({ log: [4, 6], evaluate: [], save: [4, 6], stop: [6] });
  });

  it.each<[TrainingArgumentsInput, number[]]>([
    // The last update is always evaluated with eval_strategy steps, once.
    [{ eval_strategy: "steps", eval_steps: 3 }, [3, 6, 8]],
    [{ eval_strategy: "steps", eval_steps: 4 }, [4, 8]],
    [{ eval_strategy: "steps", logging_steps: 5 }, [5, 8]],
    [{ eval_strategy: "steps", eval_steps: 0.3 }, [3, 6, 8]],
    [{ eval_strategy: "steps", eval_steps: 2, eval_delay: 5 }, [6, 8]],
    [{ eval_strategy: "steps", eval_steps: 2, eval_delay: 9 }, []],
    [{ eval_strategy: "epoch" }, [4, 8]],
    [{ eval_strategy: "epoch", eval_delay: 1.5 }, [8]],
    [{ eval_strategy: "no", eval_steps: 2 }, []],
  ])("%j evaluates after %j", async (input, expected) => {
    expect((await flow(input)).evaluate).toEqual(expected);
  });

  it("evaluates an epoch that max_steps cuts short", async () => {
    expect((await flow({ eval_strategy: "epoch" }, { maxSteps: 6 })).evaluate).toEqual([4, 6]);
  });
});

describe("newTrainerState", () => {
  it("rounds shares of the run up", () => {
    const args = new TrainingArguments({ logging_steps: 0.1, save_steps: 0.5, eval_steps: 0.25 });
    const state = newTrainerState(args, { max_steps: 11, num_train_epochs: 1, train_batch_size: 2 });
    expect(state).toMatchObject({ logging_steps: 2, save_steps: 6, eval_steps: 3 });
  });

  it("has the keys of trainer_state.json", () => {
    const run = { max_steps: 1, num_train_epochs: 1, train_batch_size: 2 };
    const state = newTrainerState(new TrainingArguments(), run);
    expect(Object.keys(state).toSorted()).toEqual([
      "best_global_step",
      "best_metric",
      "best_model_checkpoint",
      "epoch",
      "eval_steps",
      "global_step",
      "is_hyper_param_search",
      "is_local_process_zero",
      "is_world_process_zero",
      "log_history",
      "logging_steps",
      "max_steps",
      "num_input_tokens_seen",
      "num_train_epochs",
      "save_steps",
      "stateful_callbacks",
      "total_flos",
      "train_batch_size",
      "trial_name",
      "trial_params",
    ]);
    expect(state).toMatchObject({ ...run, logging_steps: 500, save_steps: 500, eval_steps: 500 });
  });
});

describe("CallbackHandler", () => {
  const args = new TrainingArguments();
  const state = newTrainerState(args, { max_steps: 1, num_train_epochs: 1, train_batch_size: 1 });

  it("calls in order, waits, and passes on the control that a callback returns", async () => {
    const seen: [string, TrainerControl][] = [];
    const other = newTrainerControl();
    const slow: TrainerCallback = {
      onStepEnd: async (_args, _state, control) => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        seen.push(["slow", control]);
        return other;
      },
    };
    const last: TrainerCallback = {
      onStepEnd: (_args, _state, control) => {
        seen.push(["last", control]);
        control.should_save = true;
      },
    };
    const first = newTrainerControl();
    const handler = new CallbackHandler([slow, {}, last]);
    const result = await handler.call("onStepEnd", args, state, first, {});
    expect(seen).toEqual([
      ["slow", first],
      ["last", other],
    ]);
    expect(result).toBe(other);
    expect(other.should_save).toBe(true);
    expect(first.should_save).toBe(false);
  });

  it("keeps `this` of a callback and gives it the details of the event", async () => {
    class Recorder implements TrainerCallback {
      losses: number[] = [];
      onLog: TrainerCallback["onLog"] = (_args, _state, _control, { logs }) => {
        this.losses.push(logs.loss!);
      };
    }
    const recorder = new Recorder();
    await new CallbackHandler([recorder]).call("onLog", args, state, newTrainerControl(), { logs: { loss: 2 } });
    expect(recorder.losses).toEqual([2]);
  });

  it("gathers the states of those that have one, and gives each its own back", () => {
    const counter = (stateName: string, count: number) => ({
      stateName,
      count,
      saveState() {
        return { args: {}, attributes: { count: this.count } };
      },
      loadState({ attributes }: CallbackState) {
        this.count = attributes.count as number;
      },
    });
    const states = new CallbackHandler([counter("A", 1), {}, counter("B", 2)]).saveStates();
    expect(states).toEqual({ A: { args: {}, attributes: { count: 1 } }, B: { args: {}, attributes: { count: 2 } } });
    const [b, c] = [counter("B", 0), counter("C", 7)];
    new CallbackHandler([c, b, {}]).loadStates(states);
    expect([b.count, c.count]).toEqual([2, 7]);
  });

  it("lets an error of a callback through", async () => {
    const failing: TrainerCallback = {
      onTrainBegin: () => {
        throw new Error("mine");
      },
    };
    const call = new CallbackHandler([failing]).call("onTrainBegin", args, state, newTrainerControl(), {});
    await expect(call).rejects.toThrow("mine");
  });

  it("clears flags when their time is over", async () => {
    const handler = new CallbackHandler([]);
    const set = () => ({
      should_training_stop: true,
      should_epoch_stop: true,
      should_save: true,
      should_evaluate: true,
      should_log: true,
    });
    const left = async (event: "onStepBegin" | "onEpochBegin" | "onTrainBegin" | "onStepEnd") => {
      const control = await handler.call(event, args, state, set(), {});
      return Object.entries(control).flatMap(([name, value]) => (value ? [] : [name]));
    };
    expect(await left("onStepBegin")).toEqual(["should_save", "should_evaluate", "should_log"]);
    expect(await left("onEpochBegin")).toEqual(["should_epoch_stop"]);
    expect(await left("onTrainBegin")).toEqual(["should_training_stop"]);
    expect(await left("onStepEnd")).toEqual([]);
    expect((await handler.call("onLog", args, state, set(), { logs: {} })).should_log).toBe(false);
    expect((await handler.call("onSave", args, state, set(), { checkpoint: "" })).should_save).toBe(false);
    expect((await handler.call("onEvaluate", args, state, set(), { metrics: {} })).should_evaluate).toBe(false);
  });
});
