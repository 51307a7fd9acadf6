import type { TrainingArguments } from "../arguments/index.js";
import type { LogEntry, TrainerState } from "../runFolder/state.js";

/** What callbacks ask of the training loop. The loop clears each flag when its time is over. */
export interface TrainerControl {
  /** End training after this update; never cleared during a run. */
  should_training_stop: boolean;
  /** End this epoch after this update; cleared when the next one begins. */
  should_epoch_stop: boolean;
  /** Save, evaluate, log after this update; cleared when it is done and when the next update begins. */
  should_save: boolean;
  should_evaluate: boolean;
  should_log: boolean;
}

export const newTrainerControl = (): TrainerControl => ({
  should_training_stop: false,
  should_epoch_stop: false,
  should_save: false,
  should_evaluate: false,
  should_log: false,
});

/** What the loop knows beyond `state` when an event happens. */
export interface CallbackContext {
  /** Training speed so far in this process, or undefined before the first update. */
  readonly tokensPerSecond?: number;
  /** Loss of the last finished update; NaN before the first. */
  readonly loss?: number;
  /** Learning rate of the last finished update; NaN before the first. */
  readonly learningRate?: number;
  /** Most bytes of the GPU's memory that tensors took at once so far; undefined on the CPU. */
  readonly peakDeviceMemory?: number;
  /** With fp16: updates of the run that were left out because their gradients overflowed. */
  readonly overflows?: number;
}

/** What comes with an event besides the context. */
interface EventDetails {
  onInitEnd: unknown;
  onTrainBegin: unknown;
  onEpochBegin: unknown;
  onStepBegin: unknown;
  onSubstepEnd: unknown;
  onPreOptimizerStep: unknown;
  onOptimizerStep: unknown;
  onStepEnd: unknown;
  onLog: { readonly logs: Readonly<LogEntry> };
  /** A batch of an evaluation is done, counted from 1. */
  onPredictionStep: { readonly batch: number; readonly batches: number };
  onEvaluate: { readonly metrics: Readonly<Record<string, number>> };
  onPredict: { readonly metrics: Readonly<Record<string, number>> };
  onSave: { readonly checkpoint: string };
  onPushBegin: unknown;
  onEpochEnd: unknown;
  onTrainEnd: unknown;
}

export type TrainerEvent = keyof EventDetails;

export const TRAINER_EVENTS = [
  "onInitEnd",
  "onTrainBegin",
  "onEpochBegin",
  "onStepBegin",
  "onSubstepEnd",
  "onPreOptimizerStep",
  "onOptimizerStep",
  "onStepEnd",
  "onLog",
  "onPredictionStep",
  "onEvaluate",
  "onPredict",
  "onSave",
  "onPushBegin",
  "onEpochEnd",
  "onTrainEnd",
] as const satisfies readonly TrainerEvent[];

/** Called at an event; may change `control` or return another one, and may take its time: the loop waits. */
type Handler<E extends TrainerEvent> = (
  args: TrainingArguments,
  state: TrainerState,
  control: TrainerControl,
  context: CallbackContext & EventDetails[E],
  // biome-ignore lint/suspicious/noConfusingVoidType: most callbacks return nothing
) => TrainerControl | void | Promise<TrainerControl | void>;

/**
 * The 16 events of the Trainer, each optional. In one update: `onStepBegin`, `onSubstepEnd` after every accumulated
 * batch but the last, `onPreOptimizerStep`, `onOptimizerStep`, `onStepEnd`, then `onLog`, `onEvaluate` and `onSave`
 * where `control` asks for them.
 */
export type TrainerCallback = Handlers & Partial<Stateful>;

type Handlers = { [E in TrainerEvent]?: Handler<E> };

/** What a callback keeps in checkpoints, in the shape of transformers' `stateful_callbacks`; plain JSON. */
export interface CallbackState {
  args: Record<string, unknown>;
  attributes: Record<string, unknown>;
}

/** A callback whose state is saved with every checkpoint and restored before a resumed run begins. */
export interface Stateful {
  /** Its key in `stateful_callbacks`. */
  readonly stateName: string;
  saveState(): CallbackState;
  loadState(state: CallbackState): void;
}

/** Flags that the handler itself clears before an event, as the Trainer does. */
const CLEARED: Partial<Record<TrainerEvent, readonly (keyof TrainerControl)[]>> = {
  onTrainBegin: ["should_training_stop"],
  onEpochBegin: ["should_epoch_stop"],
  onStepBegin: ["should_log", "should_evaluate", "should_save"],
  onLog: ["should_log"],
  onEvaluate: ["should_evaluate"],
  onSave: ["should_save"],
};

/** Calls a list of callbacks one after another, in the order in which they were added. */
export class CallbackHandler {
  private readonly callbacks: TrainerCallback[];

  constructor(callbacks: readonly TrainerCallback[]) {
    this.callbacks = [...callbacks];
  }

  /** The states of those callbacks that have one, by name. */
  saveStates(): Record<string, CallbackState> {
    const states: Record<string, CallbackState> = {};
    for (const callback of this.callbacks) {
      const state = callback.saveState?.();
      if (callback.stateName !== undefined && state !== undefined) states[callback.stateName] = state;
    }
    return states;
  }

  loadStates(states: Readonly<Record<string, unknown>>): void {
    for (const callback of this.callbacks) {
      const state = callback.stateName === undefined ? undefined : states[callback.stateName];
      if (state !== undefined) callback.loadState?.(state as CallbackState);
    }
  }

  /** Tells all callbacks of an event; resolves to the control to go on with. */
  async call<E extends TrainerEvent>(
    event: E,
    args: TrainingArguments,
    state: TrainerState,
    control: TrainerControl,
    context: CallbackContext & EventDetails[E],
  ): Promise<TrainerControl> {
    for (const flag of CLEARED[event] ?? []) control[flag] = false;
    let current = control;
    for (const callback of this.callbacks as Handlers[]) {
      const answer = await callback[event]?.(args, state, current, context);
      if (answer && typeof answer === "object") current = answer; // an arrow function may give back just anything
    }
    return current;
  }
}

/** The rules of when to log, evaluate, save and stop; the first callback of every run. */
export class DefaultFlowCallback implements TrainerCallback {
  onStepEnd(args: TrainingArguments, state: TrainerState, control: TrainerControl): void {
    const due = (interval: number) => interval > 0 && state.global_step % interval === 0;
    if (args.logging_first_step && state.global_step === 1) control.should_log = true;
    if (args.logging_strategy === "steps" && due(state.logging_steps)) control.should_log = true;
    const delayed = args.eval_delay > state.global_step;
    if (args.eval_strategy === "steps" && due(state.eval_steps) && !delayed) control.should_evaluate = true;
    if (args.save_strategy === "steps" && due(state.save_steps)) control.should_save = true;
    if (state.global_step >= state.max_steps) {
      control.should_training_stop = true;
      if (args.eval_strategy === "steps" && !delayed) control.should_evaluate = true;
      if (args.save_strategy === "steps") control.should_save = true;
    }
  }

  onEpochEnd(args: TrainingArguments, state: TrainerState, control: TrainerControl): void {
    if (args.logging_strategy === "epoch") control.should_log = true;
    if (args.eval_strategy === "epoch" && args.eval_delay <= state.epoch) control.should_evaluate = true;
    if (args.save_strategy === "epoch") control.should_save = true;
  }
}
