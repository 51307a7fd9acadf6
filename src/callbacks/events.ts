/** What a run tells to whoever listens: `for await (const event of trainer.events())`. */

import type { TrainingArguments } from "../arguments/index.js";
import type { Incident, LogEntry, TrainerState, TrainOutput } from "../runFolder/state.js";
import type { CallbackContext, TrainerCallback, TrainerControl } from "./callbacks.js";

/** One event of a run. `step` counts finished updates, `epoch` passes over the data (fractional). */
export type TrainingEvent =
  /** Training begins, at update `step` of `maxSteps`. */
  | { type: "start"; step: number; maxSteps: number; epochs: number }
  /** An update is done. */
  | {
      type: "step";
      step: number;
      maxSteps: number;
      epoch: number;
      loss: number;
      learningRate: number;
      tokensPerSecond?: number;
    }
  /** A log entry, as in log_history. */
  | { type: "log"; step: number; logs: Readonly<LogEntry> }
  | { type: "evaluate"; step: number; metrics: Readonly<Record<string, number>> }
  /** `checkpoint` is on disk, whole. */
  | { type: "save"; step: number; checkpoint: string }
  /** An epoch is over. */
  | { type: "epoch"; step: number; epoch: number }
  | { type: "pause" | "resume"; step: number }
  /** A loss or gradient that is no number; `incident.action` says what came of it. */
  | { type: "health"; step: number; incident: Incident }
  /** This listener was too slow: `count` older events were thrown away. */
  | { type: "skipped"; count: number }
  /** The last event of a run that ended well, or was stopped. */
  | { type: "end"; output: TrainOutput }
  /** The last event of a run that failed; `train()` rejects with the same error. */
  | { type: "error"; error: unknown };

/** Events that wait for one listener; older ones make room. */
const MOST_WAITING = 1024;

/** One listener's queue. It never makes the run wait, and holds a bounded number of events. */
class Listener implements AsyncIterableIterator<TrainingEvent> {
  readonly #queue: TrainingEvent[] = [];
  readonly #onClose: (listener: Listener) => void;
  #skipped = 0;
  #closed = false;
  #waiting: ((result: IteratorResult<TrainingEvent>) => void)[] = [];

  constructor(onClose: (listener: Listener) => void) {
    this.#onClose = onClose;
  }

  push(event: TrainingEvent): void {
    const waiting = this.#waiting.shift();
    if (waiting) {
      waiting({ value: event, done: false });
      return;
    }
    this.#queue.push(event);
    if (this.#queue.length > MOST_WAITING) {
      this.#queue.shift();
      this.#skipped++;
    }
  }

  /** No more events will come; those that wait can still be read. */
  end(): void {
    this.#closed = true;
    for (const waiting of this.#waiting.splice(0)) waiting({ value: undefined, done: true });
  }

  next(): Promise<IteratorResult<TrainingEvent>> {
    if (this.#skipped > 0) {
      const count = this.#skipped;
      this.#skipped = 0;
      return Promise.resolve({ value: { type: "skipped", count }, done: false });
    }
    const event = this.#queue.shift();
    if (event) return Promise.resolve({ value: event, done: false });
    if (this.#closed) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The listener has seen enough (`break`). */
  return(): Promise<IteratorResult<TrainingEvent>> {
    this.#queue.length = 0;
    this.#skipped = 0;
    this.end();
    this.#onClose(this);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Hands every event to every listener. Without listeners nothing is kept. */
export class EventHub {
  readonly #listeners = new Set<Listener>();
  #over = false;

  /** Events from now on, until the run ends. */
  listen(): AsyncIterableIterator<TrainingEvent> {
    const listener = new Listener((gone) => this.#listeners.delete(gone));
    if (this.#over) listener.end();
    else this.#listeners.add(listener);
    return listener;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  push(event: TrainingEvent): void {
    for (const listener of this.#listeners) listener.push(event);
  }

  /** Tells the last event and lets all listeners go. */
  end(event: TrainingEvent): void {
    this.#over = true;
    for (const listener of this.#listeners) {
      listener.push(event);
      listener.end();
    }
    this.#listeners.clear();
  }
}

/** The callback that feeds the hub; it stands after the user's, so that it tells what they left. */
export class EventsCallback implements TrainerCallback {
  readonly #hub: EventHub;

  constructor(hub: EventHub) {
    this.#hub = hub;
  }

  onTrainBegin(_: TrainingArguments, state: TrainerState): void {
    const { global_step: step, max_steps: maxSteps, num_train_epochs: epochs } = state;
    this.#hub.push({ type: "start", step, maxSteps, epochs });
  }

  onStepEnd(_: TrainingArguments, state: TrainerState, __: TrainerControl, context: CallbackContext): void {
    const { loss = Number.NaN, learningRate = Number.NaN, tokensPerSecond } = context;
    const { global_step: step, max_steps: maxSteps, epoch } = state;
    this.#hub.push({ type: "step", step, maxSteps, epoch, loss, learningRate, tokensPerSecond });
  }

  onLog(_: TrainingArguments, state: TrainerState, __: TrainerControl, { logs }: { logs: Readonly<LogEntry> }): void {
    this.#hub.push({ type: "log", step: state.global_step, logs: { ...logs } });
  }

  onEvaluate(
    _: TrainingArguments,
    state: TrainerState,
    __: TrainerControl,
    { metrics }: { metrics: Readonly<Record<string, number>> },
  ): void {
    this.#hub.push({ type: "evaluate", step: state.global_step, metrics: { ...metrics } });
  }

  onSave(_: TrainingArguments, state: TrainerState, __: TrainerControl, { checkpoint }: { checkpoint: string }): void {
    this.#hub.push({ type: "save", step: state.global_step, checkpoint });
  }

  onEpochEnd(_: TrainingArguments, state: TrainerState): void {
    this.#hub.push({ type: "epoch", step: state.global_step, epoch: state.epoch });
  }
}
