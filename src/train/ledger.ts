/** What a run has done so far, and what it says of it: state, sums, log entries, events. */

import type { TrainingArguments } from "../arguments/index.js";
import {
  type CallbackHandler,
  newTrainerControl,
  newTrainerState,
  type TrainerControl,
  type TrainerEvent,
  type TrainerState,
} from "../callbacks/callbacks.js";
import { type Device, peakDeviceMemory } from "../torch/index.js";
import type { Plan } from "./plan.js";
import type { Progress } from "./saving/resumable.js";
import type { StepResult } from "./step.js";

export interface TrainOutput {
  global_step: number;
  /** Mean loss over all updates of the run. */
  training_loss: number;
  metrics: Record<string, number>;
  /** True when the run was asked to stop early; `checkpoint` is then where to resume. */
  interrupted: boolean;
  checkpoint?: string;
}

export class Ledger {
  readonly #args: TrainingArguments;
  readonly #callbacks: CallbackHandler;
  readonly #device: Device;
  state: TrainerState;
  control: TrainerControl = newTrainerControl();
  progress: Progress = {
    lossSum: 0,
    lossSinceLog: 0,
    lastLoggedStep: 0,
    tokens: 0,
    seconds: 0,
    skipped: 0,
    skippedSinceLog: 0,
    scheduleLag: 0,
    epochsEnded: 0,
    evaluationPending: false,
  };
  last = { loss: Number.NaN, gradNorm: Number.NaN, learningRate: Number.NaN };
  #startedAt = 0;
  #tokensAtStart = 0;
  savedStep = -1;
  savedPath: string | undefined;

  constructor(args: TrainingArguments, plan: Plan, callbacks: CallbackHandler, device: Device) {
    this.#device = device;
    this.#args = args;
    this.#callbacks = callbacks;
    this.state = newTrainerState(args, {
      max_steps: plan.maxSteps,
      num_train_epochs: plan.epochs,
      train_batch_size: args.per_device_train_batch_size,
    });
  }

  /** As if the run had never stopped at the checkpoint of that path. */
  continueFrom({ state, progress }: { state: TrainerState; progress: Progress }, path: string): void {
    this.state = state;
    this.progress = { ...this.progress, ...progress };
    const { loss, gradNorm, learningRate } = progress.last ?? {};
    this.last = {
      loss: loss ?? Number.NaN,
      gradNorm: gradNorm ?? Number.NaN,
      learningRate: learningRate ?? Number.NaN,
    };
    this.#callbacks.loadStates(state.stateful_callbacks);
    this.savedStep = state.global_step;
    this.savedPath = path;
  }

  /** Time runs from here. */
  start(): void {
    this.#startedAt = performance.now();
    this.#tokensAtStart = this.progress.tokens;
  }

  /** Milliseconds that were no time of training. */
  addPause(milliseconds: number): void {
    this.#startedAt += milliseconds;
  }

  /** An update was made, or left out by an overflow: the Trainer counts both alike. */
  countUpdate(result: StepResult, learningRate: number, flops: number): void {
    this.state.global_step++;
    this.progress.lossSum += result.loss;
    this.progress.lossSinceLog += result.loss;
    this.progress.tokens += result.tokens;
    this.state.total_flos += flops;
    const counted = this.#args.include_num_input_tokens_seen;
    if (counted !== "no") {
      this.state.num_input_tokens_seen += counted === "non_padding" ? result.tokens : result.paddedTokens;
    }
    this.last = { loss: result.loss, gradNorm: result.gradNorm, learningRate };
  }

  /**
   * An update was not made: its data counts as used and the schedule moves on, so that the place in the data stays a
   * matter of global_step alone.
   */
  countSkipped(learningRate: number): void {
    this.last.learningRate = learningRate;
    this.state.global_step++;
    this.progress.skipped++;
    this.progress.skippedSinceLog++;
  }

  async logLoss(): Promise<void> {
    const { gradNorm, learningRate } = this.last;
    const progress = this.progress;
    const { skippedSinceLog: skipped, lossScaler: scaler } = progress;
    const made = this.state.global_step - progress.lastLoggedStep - skipped;
    const entry: Record<string, number> = {};
    if (made > 0) entry.loss = progress.lossSinceLog / made;
    if (made > 0 && Number.isFinite(gradNorm)) entry.grad_norm = gradNorm; // an overflow's is not, and JSON has no such number
    entry.learning_rate = learningRate;
    if (scaler) entry.loss_scale = scaler.scale;
    if (scaler && scaler.overflowsSinceLog > 0) entry.overflows = scaler.overflowsSinceLog;
    if (skipped > 0) entry.skipped_updates = skipped;
    await this.record(entry, this.#tokenSpeed());
    progress.lossSinceLog = 0;
    progress.skippedSinceLog = 0;
    if (scaler) scaler.overflowsSinceLog = 0;
    progress.lastLoggedStep = this.state.global_step;
  }

  /** What `include_num_input_tokens_seen` also adds to each log entry of training. */
  #tokenSpeed(): Record<string, number> {
    const seconds = this.seconds();
    return { train_runtime: seconds, train_tokens_per_second: this.state.num_input_tokens_seen / seconds };
  }

  async record(entry: Record<string, number>, speed: Record<string, number> = {}): Promise<void> {
    const { epoch, num_input_tokens_seen } = this.state;
    const logs: Record<string, number> = { ...entry, epoch };
    if (this.#args.include_num_input_tokens_seen !== "no") Object.assign(logs, { num_input_tokens_seen, ...speed });
    this.state.log_history.push({ ...logs, step: this.state.global_step });
    await this.tell("onLog", { logs });
  }

  output(metrics: Record<string, number>, interrupted: boolean): TrainOutput {
    const steps = this.state.global_step;
    return {
      global_step: steps,
      training_loss: this.meanLoss(),
      metrics,
      interrupted,
      checkpoint: this.savedPath,
    };
  }

  /** Of all updates that were made; NaN when there was none. */
  meanLoss(): number {
    return this.progress.lossSum / (this.state.global_step - this.progress.skipped);
  }

  /** Seconds of training, with those before a resume. */
  seconds(): number {
    return this.progress.seconds + (performance.now() - this.#startedAt) / 1000;
  }

  async tell<E extends TrainerEvent>(event: E, details: Record<string, unknown> = {}): Promise<void> {
    const seconds = (performance.now() - this.#startedAt) / 1000;
    const tokens = this.progress.tokens - this.#tokensAtStart;
    const context = {
      tokensPerSecond: tokens > 0 ? tokens / seconds : undefined,
      loss: this.last.loss,
      learningRate: this.last.learningRate,
      peakDeviceMemory: peakDeviceMemory(this.#device),
      overflows: this.progress.lossScaler?.overflows,
      ...details,
    };
    // biome-ignore lint/suspicious/noExplicitAny: each event's details are given where it is told
    this.control = await this.#callbacks.call(event, this.#args, this.state, this.control, context as any);
  }
}
