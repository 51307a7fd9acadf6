/** One run while it goes: epochs of windows of micro-batches, with the Trainer's events, logs and checkpoints. */
import { join } from "node:path";
import { UserError } from "../errors.js";
import type { Sequence } from "../models/batch.js";
import type { Optimizer } from "../optim/optimizer.js";
import { createScheduler, type Scheduler } from "../optim/schedulers.js";
import type { TrainingArguments } from "./arguments/index.js";
import { writeModelFiles, writeResult } from "./artifacts.js";
import {
  type CallbackHandler,
  newTrainerControl,
  newTrainerState,
  type TrainerControl,
  type TrainerEvent,
  type TrainerState,
} from "./callbacks.js";
import { rotate, writeCheckpoint } from "./checkpoint/folders.js";
import { writeSynced } from "./checkpoint/manifest.js";
import { type Progress, stateJson, TRAINER_STATE, writeResumable } from "./checkpoint/resumable.js";
import { type Plan, windowOf } from "./plan.js";
import type { PreparedRun } from "./prepare.js";
import { drawLoaderSeed, epochOrder } from "./sampler.js";
import { accumulate, update } from "./step.js";

export interface TrainOutput {
  global_step: number;
  /** Mean loss over all updates of the run. */
  training_loss: number;
  metrics: Record<string, number>;
  /** True when the run was asked to stop early; `checkpoint` is then where to resume. */
  interrupted: boolean;
  checkpoint?: string;
}

export interface LoopOptions {
  callbacks: CallbackHandler;
  stopRequested: () => boolean;
}

export class Loop {
  readonly #run: PreparedRun;
  readonly #plan: Plan;
  readonly #args: TrainingArguments;
  readonly #optimizer: Optimizer;
  readonly #scheduler: Scheduler;
  readonly #options: LoopOptions;
  #state: TrainerState;
  #control: TrainerControl = newTrainerControl();
  #progress: Progress = { lossSum: 0, lossSinceLog: 0, lastLoggedStep: 0, tokens: 0, seconds: 0 };
  #last = { loss: Number.NaN, gradNorm: Number.NaN, learningRate: Number.NaN };
  #startedAt = 0;
  #tokensAtStart = 0;
  #savedStep = -1;
  #savedPath: string | undefined;

  constructor(run: PreparedRun, plan: Plan, args: TrainingArguments, optimizer: Optimizer, options: LoopOptions) {
    this.#run = run;
    this.#plan = plan;
    this.#args = args;
    this.#optimizer = optimizer;
    this.#options = options;
    this.#scheduler = createScheduler(args, { maxSteps: plan.maxSteps });
    this.#state = newTrainerState(args, {
      max_steps: plan.maxSteps,
      num_train_epochs: plan.epochs,
      train_batch_size: args.per_device_train_batch_size,
    });
  }

  continueFrom({ state, progress }: { state: TrainerState; progress: Progress }): void {
    this.#state = state;
    this.#progress = progress;
    this.#savedStep = state.global_step;
  }

  async run(): Promise<TrainOutput> {
    this.#startedAt = performance.now();
    this.#tokensAtStart = this.#progress.tokens;
    await this.#tell("onInitEnd");
    await this.#tell("onTrainBegin");
    const { stepsPerEpoch } = this.#plan;
    const firstEpoch = Math.floor(this.#state.global_step / stepsPerEpoch);
    let interrupted = false;
    for (let epoch = firstEpoch; epoch < this.#plan.epochs && !this.#control.should_training_stop; epoch++) {
      if (this.#state.global_step >= this.#plan.maxSteps) break;
      interrupted = await this.#epoch(epoch, epoch === firstEpoch ? this.#state.global_step % stepsPerEpoch : 0);
      if (interrupted) break;
    }
    if (interrupted) {
      if (this.#savedStep !== this.#state.global_step) await this.#save();
      await this.#tell("onTrainEnd");
      return this.#output({}, true);
    }
    return this.#finish();
  }

  /** Trains one epoch from its update `firstStep` on; true when the run was asked to stop. */
  async #epoch(epoch: number, firstStep: number): Promise<boolean> {
    const { gradient_accumulation_steps: accumulation } = this.#args;
    if (firstStep === 0) {
      await this.#tell("onEpochBegin");
      drawLoaderSeed(); // a run resumed inside an epoch has this draw in its generator's state
    }
    const order = await epochOrder(this.#plan.examples, epoch, this.#args);
    let interrupted = false;
    for (let step = firstStep; step < this.#plan.stepsPerEpoch; step++) {
      const [first, end] = windowOf(this.#plan, step, accumulation);
      await this.#tell("onStepBegin");
      await this.#update(order, first, end);
      this.#state.epoch = epoch + end / this.#plan.batchesPerEpoch;
      await this.#tell("onStepEnd");
      await this.#logAndSave();
      interrupted = this.#options.stopRequested();
      if (interrupted || this.#control.should_epoch_stop || this.#control.should_training_stop) break;
    }
    // A stop in the middle is no epoch's end; at the end of the run or the epoch it is.
    if (interrupted && this.#state.global_step < this.#plan.maxSteps) return true;
    await this.#tell("onEpochEnd");
    await this.#logAndSave();
    return false;
  }

  async #update(order: Int32Array, first: number, end: number): Promise<void> {
    const args = this.#args;
    const run = this.#run;
    const size = args.per_device_train_batch_size;
    const window: Sequence[][] = [];
    for (let batch = first; batch < end; batch++) {
      window.push(Array.from(order.subarray(batch * size, (batch + 1) * size), (row) => run.examples[row]!));
    }
    const learningRate = args.learning_rate * this.#scheduler.lrFactor(this.#state.global_step);
    const result = await accumulate(run, window, async (last) => {
      if (!last) await this.#tell("onSubstepEnd");
    });
    this.#checkFinite(result, learningRate, order.subarray(first * size, end * size));
    await this.#tell("onPreOptimizerStep");
    update(run.parameters, this.#optimizer, {
      gradNorm: result.gradNorm,
      maxGradNorm: args.max_grad_norm,
      learningRate,
    });
    await this.#tell("onOptimizerStep");
    this.#state.global_step++;
    this.#progress.lossSum += result.loss;
    this.#progress.lossSinceLog += result.loss;
    this.#progress.tokens += result.tokens;
    this.#state.total_flos += this.#flops(window);
    this.#last = { loss: result.loss, gradNorm: result.gradNorm, learningRate };
  }

  /** A non-finite update would make every weight NaN: it is not made. */
  #checkFinite({ loss, gradNorm }: { loss: number; gradNorm: number }, learningRate: number, rows: Int32Array): void {
    if (Number.isFinite(loss) && Number.isFinite(gradNorm)) return;
    throw new UserError(
      `Training stopped before update ${this.#state.global_step + 1}: the loss is ${loss}, the gradient norm ${gradNorm}, at learning rate ${learningRate} (examples ${[...rows].join(", ")} of the dataset). The weights of the last checkpoint are good; resume from it with a lower learning_rate, more warmup_steps or a lower max_grad_norm.`,
    );
  }

  /** The Trainer's estimate: 6 × padded tokens × parameters outside the embeddings. */
  #flops(window: readonly (readonly Sequence[])[]): number {
    const { vocabSize, hiddenSize } = this.#run.model.config;
    const weights = this.#run.totalParameters - vocabSize * hiddenSize;
    const padded = window.reduce(
      (sum, batch) => sum + batch.length * Math.max(...batch.map(({ inputIds }) => inputIds.length)),
      0,
    );
    return 6 * padded * weights;
  }

  async #logAndSave(): Promise<void> {
    if (this.#control.should_log && this.#state.global_step > this.#progress.lastLoggedStep) await this.#logLoss();
    if (this.#control.should_save) {
      if (this.#savedStep !== this.#state.global_step) await this.#save();
      this.#control.should_save = false;
    }
  }

  async #logLoss(): Promise<void> {
    const { gradNorm, learningRate } = this.#last;
    const progress = this.#progress;
    const steps = this.#state.global_step - progress.lastLoggedStep;
    await this.#record({ loss: progress.lossSinceLog / steps, grad_norm: gradNorm, learning_rate: learningRate });
    progress.lossSinceLog = 0;
    progress.lastLoggedStep = this.#state.global_step;
  }

  async #record(entry: Record<string, number>): Promise<void> {
    const logs = { ...entry, epoch: this.#state.epoch };
    this.#state.log_history.push({ ...logs, step: this.#state.global_step });
    await this.#tell("onLog", { logs });
  }

  async #save(): Promise<void> {
    const args = this.#args;
    const step = this.#state.global_step;
    const path = await writeCheckpoint(args.output_dir, step, async (folder) => {
      await writeModelFiles(folder, this.#run);
      if (args.save_only_model) return writeSynced(join(folder, TRAINER_STATE), stateJson(this.#state));
      await writeResumable(
        folder,
        {
          args: args.toJSON(),
          state: this.#state,
          identity: this.#run.identity,
          progress: { ...this.#progress, seconds: this.#seconds() },
        },
        this.#optimizer.stateEntries(),
      );
    });
    this.#savedStep = step;
    this.#savedPath = path;
    await rotate(args.output_dir, args.save_total_limit);
    await this.#tell("onSave", { checkpoint: path });
  }

  async #finish(): Promise<TrainOutput> {
    const seconds = this.#seconds();
    const { global_step: steps } = this.#state;
    const epochs = this.#args.max_steps > 0 ? undefined : this.#args.num_train_epochs;
    const samples = epochs === undefined ? steps * this.#plan.effectiveBatch : Math.round(this.#plan.examples * epochs);
    const metrics = {
      train_runtime: seconds,
      train_samples_per_second: samples / seconds,
      train_steps_per_second: steps / seconds,
      train_tokens_per_second: this.#progress.tokens / seconds,
      total_flos: this.#state.total_flos,
      train_loss: this.#progress.lossSum / steps,
    };
    await this.#record(metrics);
    await writeResult(this.#args.output_dir, this.#run, this.#state);
    await this.#tell("onTrainEnd");
    return this.#output(metrics, false);
  }

  #output(metrics: Record<string, number>, interrupted: boolean): TrainOutput {
    const steps = this.#state.global_step;
    return {
      global_step: steps,
      training_loss: this.#progress.lossSum / steps,
      metrics,
      interrupted,
      checkpoint: this.#savedPath,
    };
  }

  /** Seconds of training, with those before a resume. */
  #seconds(): number {
    return this.#progress.seconds + (performance.now() - this.#startedAt) / 1000;
  }

  async #tell<E extends TrainerEvent>(event: E, details: Record<string, unknown> = {}): Promise<void> {
    const seconds = (performance.now() - this.#startedAt) / 1000;
    const tokens = this.#progress.tokens - this.#tokensAtStart;
    const context = {
      tokensPerSecond: tokens > 0 ? tokens / seconds : undefined,
      loss: this.#last.loss,
      learningRate: this.#last.learningRate,
      ...details,
    };
    // biome-ignore lint/suspicious/noExplicitAny: each event's details are given where it is told
    this.#control = await this.#options.callbacks.call(event, this.#args, this.#state, this.#control, context as any);
  }
}
