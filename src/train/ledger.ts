/** What a run has done so far, and what it says of it: state, sums, log entries, events. */

import {
  type CallbackHandler,
  newTrainerControl,
  type TrainerControl,
  type TrainerEvent,
} from "../callbacks/callbacks.js";
import { noteBest } from "../evaluate/bestModel.js";
import type { Tally, TrainerState, TrainOutput } from "../runFolder/state.js";
import { type Device, peakDeviceMemory } from "../torch/index.js";
import type { StepResult } from "./accumulate.js";
import type { LossScaler } from "./lossScaler.js";
import type { Settings } from "./settings.js";

/** Everything of a run so far that a checkpoint's JSON holds. */
export interface Saved {
  state: TrainerState;
  tally: Tally;
}

const nothing = (): Tally => ({
  lossSum: 0,
  lossSinceLog: 0,
  lastLoggedStep: 0,
  tokens: 0,
  seconds: 0,
  skipped: 0,
  skippedSinceLog: 0,
  scheduleLag: 0,
  epochsEnded: 0,
  askedSaves: [],
});

export class Ledger {
  readonly #settings: Settings;
  readonly #callbacks: CallbackHandler;
  readonly #device: Device;
  readonly #scaler: LossScaler | undefined;
  #state: TrainerState;
  #control: TrainerControl = newTrainerControl();
  #tally: Tally = nothing();
  #last = { loss: Number.NaN, gradNorm: Number.NaN, learningRate: Number.NaN };
  #startedAt = 0;
  #tokensAtStart = 0;

  /** @param scaler of fp16: its scale is logged and saved */
  constructor(settings: Settings, callbacks: CallbackHandler, device: Device, scaler: LossScaler | undefined) {
    this.#settings = settings;
    this.#callbacks = callbacks;
    this.#device = device;
    this.#scaler = scaler;
    this.#state = settings.newState();
  }

  get state(): Readonly<TrainerState> {
    return this.#state;
  }

  get tally(): Readonly<Tally> {
    return this.#tally;
  }

  /** What callbacks ask for. */
  get control(): Readonly<TrainerControl> {
    return this.#control;
  }

  /** Finished updates. */
  get step(): number {
    return this.#state.global_step;
  }

  /** Updates that the learning rate's schedule has counted. */
  get scheduledStep(): number {
    return this.step - this.#tally.scheduleLag;
  }

  /** As if the run had never stopped at the checkpoint that holds this. */
  continueFrom({ state, tally }: Saved): void {
    this.#state = { ...state, ...this.#settings.steering() };
    this.#tally = structuredClone(tally);
    const { loss, gradNorm, learningRate } = tally.last ?? {};
    this.#last = {
      loss: loss ?? Number.NaN,
      gradNorm: gradNorm ?? Number.NaN,
      learningRate: learningRate ?? Number.NaN,
    };
    if (tally.lossScaler) this.#scaler?.restore(tally.lossScaler);
    this.#callbacks.loadStates(state.stateful_callbacks);
  }

  /** What a checkpoint of this moment holds. */
  saved(): Saved {
    this.#state.stateful_callbacks = this.#callbacks.saveStates();
    const tally = {
      ...this.#tally,
      seconds: this.seconds(),
      last: this.#last,
      lossScaler: this.#scaler?.state,
      schedule: this.#settings.scheduler.metric?.state(),
    };
    return { state: this.#state, tally };
  }

  /** Time runs from here. */
  start(): void {
    this.#startedAt = performance.now();
    this.#tokensAtStart = this.#tally.tokens;
  }

  /** Milliseconds that were no time of training. */
  addPause(milliseconds: number): void {
    this.#startedAt += milliseconds;
  }

  /** Settings were changed. */
  settingsChanged(): void {
    Object.assign(this.#state, this.#settings.steering());
  }

  /** An update was made, or left out by an overflow: the Trainer counts both alike. */
  countUpdate(result: StepResult, learningRate: number, flops: number): void {
    this.#state.global_step++;
    this.#tally.lossSum = (this.#tally.lossSum ?? Number.NaN) + result.loss;
    this.#tally.lossSinceLog = (this.#tally.lossSinceLog ?? Number.NaN) + result.loss;
    this.#tally.tokens += result.tokens;
    this.#state.total_flos += flops;
    const counted = this.#settings.args.include_num_input_tokens_seen;
    if (counted !== "no") {
      this.#state.num_input_tokens_seen += counted === "non_padding" ? result.tokens : result.paddedTokens;
    }
    this.#last = { loss: result.loss, gradNorm: result.gradNorm, learningRate };
  }

  /** The schedule does not count the update at hand. */
  holdSchedule(): void {
    this.#tally.scheduleLag++;
  }

  /**
   * An update was not made: its data counts as used and the schedule moves on, so that the place in the data stays a
   * matter of global_step alone.
   */
  countSkipped(learningRate: number): void {
    this.#last.learningRate = learningRate;
    this.#state.global_step++;
    this.#tally.skipped++;
    this.#tally.skippedSinceLog++;
  }

  /** @param epoch passes over the data so far, fractional */
  reach(epoch: number): void {
    this.#state.epoch = epoch;
  }

  /** @param epoch how many are over now */
  endEpoch(epoch: number): void {
    this.#tally.epochsEnded = epoch;
  }

  /** The generator's state from which the epoch's order came. */
  keepEpochRandom(state: Uint8Array): void {
    this.#tally.epochRandom = Buffer.from(state).toString("base64");
  }

  /** What was asked for is done, or is asked for now. */
  want(flag: "should_evaluate" | "should_save", wanted: boolean): void {
    this.#control[flag] = wanted;
  }

  /** An evaluation ended without a result, because the run is to stop: it is due again after a resume, and a save after it. */
  evaluationStopped(): void {
    this.#tally.pending = { save: this.#control.should_save };
  }

  async recordEvaluation(metrics: Record<string, number>): Promise<void> {
    delete this.#tally.pending;
    await this.record(metrics);
    await this.tell("onEvaluate", { metrics: { ...metrics, epoch: this.#state.epoch } });
  }

  /** Whether the metric of this moment is the best so far; the state then says so. */
  noteMetric(metric: number): boolean {
    return noteBest(this.#state, metric, this.#settings.args);
  }

  setBestCheckpoint(path: string | null): void {
    this.#state.best_model_checkpoint = path;
  }

  /** @param asked the checkpoint of this update is there only because someone asked for it */
  noteSave(asked: boolean): void {
    const others = this.#tally.askedSaves.filter((step) => step !== this.step);
    this.#tally.askedSaves = asked ? [...others, this.step] : others;
  }

  async logLoss(): Promise<void> {
    const { gradNorm, learningRate } = this.#last;
    const tally = this.#tally;
    const scaler = this.#scaler?.state;
    const { skippedSinceLog: skipped } = tally;
    const made = this.step - tally.lastLoggedStep - skipped;
    const entry: Record<string, number> = {};
    if (made > 0) entry.loss = tally.lossSinceLog! / made;
    if (made > 0 && Number.isFinite(gradNorm)) entry.grad_norm = gradNorm; // an overflow's is not, and JSON has no such number
    entry.learning_rate = learningRate;
    if (scaler) entry.loss_scale = scaler.scale;
    if (scaler && scaler.overflowsSinceLog > 0) entry.overflows = scaler.overflowsSinceLog;
    if (skipped > 0) entry.skipped_updates = skipped;
    await this.record(entry, this.#tokenSpeed());
    tally.lossSinceLog = 0;
    tally.skippedSinceLog = 0;
    if (scaler) scaler.overflowsSinceLog = 0;
    tally.lastLoggedStep = this.step;
  }

  /** What `include_num_input_tokens_seen` also adds to each log entry of training. */
  #tokenSpeed(): Record<string, number> {
    const seconds = this.seconds();
    return { train_runtime: seconds, train_tokens_per_second: this.#state.num_input_tokens_seen / seconds };
  }

  async record(entry: Record<string, number>, speed: Record<string, number> = {}): Promise<void> {
    const { epoch, num_input_tokens_seen } = this.#state;
    const logs: Record<string, number> = { ...entry, epoch };
    const counts = this.#settings.args.include_num_input_tokens_seen !== "no";
    if (counts) Object.assign(logs, { num_input_tokens_seen, ...speed });
    this.#state.log_history.push({ ...logs, step: this.step });
    await this.tell("onLog", { logs });
  }

  /** What the Trainer says of a run that is over. */
  runMetrics(): Record<string, number> {
    const { args, plan } = this.#settings;
    const seconds = this.seconds();
    const whole = args.max_steps <= 0 && this.step >= plan.maxSteps;
    const samples = whole ? Math.round(plan.examples * args.num_train_epochs) : this.step * plan.effectiveBatch;
    const metrics: Record<string, number> = {
      train_runtime: seconds,
      train_samples_per_second: samples / seconds,
      train_steps_per_second: this.step / seconds,
      train_tokens_per_second: this.#tally.tokens / seconds,
      total_flos: this.#state.total_flos,
    };
    const peak = peakDeviceMemory(this.#device);
    if (peak !== undefined) metrics.train_peak_device_memory = peak;
    if (this.#scaler) metrics.train_overflows = this.#scaler.state.overflows;
    if (this.step > this.#tally.skipped) metrics.train_loss = this.meanLoss();
    return metrics;
  }

  output(metrics: Record<string, number>, interrupted: boolean, checkpoint: string | undefined): TrainOutput {
    return { global_step: this.step, training_loss: this.meanLoss(), metrics, interrupted, checkpoint };
  }

  /** Of all updates that were made; NaN when there was none. */
  meanLoss(): number {
    return (this.#tally.lossSum ?? Number.NaN) / (this.step - this.#tally.skipped);
  }

  /** Seconds of training, with those before a resume. */
  seconds(): number {
    return this.#tally.seconds + (performance.now() - this.#startedAt) / 1000;
  }

  async tell<E extends TrainerEvent>(event: E, details: Record<string, unknown> = {}): Promise<void> {
    const seconds = (performance.now() - this.#startedAt) / 1000;
    const tokens = this.#tally.tokens - this.#tokensAtStart;
    const context = {
      tokensPerSecond: tokens > 0 ? tokens / seconds : undefined,
      loss: this.#last.loss,
      learningRate: this.#last.learningRate,
      peakDeviceMemory: peakDeviceMemory(this.#device),
      overflows: this.#scaler?.state.overflows,
      ...details,
    };
    const { args } = this.#settings;
    // biome-ignore lint/suspicious/noExplicitAny: each event's details are given where it is told
    this.#control = await this.#callbacks.call(event, args, this.#state, this.#control, context as any);
  }
}
