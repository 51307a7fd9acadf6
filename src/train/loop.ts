/** One run while it goes: epochs of windows of micro-batches, with the Trainer's events, logs and checkpoints. */
import { join } from "node:path";
import { UserError } from "../errors.js";
import type { Sequence } from "../models/batch.js";
import type { Optimizer } from "../optim/optimizer.js";
import { createScheduler, type Scheduler } from "../optim/schedulers.js";
import type { TrainingArguments } from "./arguments/index.js";
import { writeModelFiles, writeResult } from "./artifacts.js";
import { findBestCheckpoint, metricOf, noteBest, noteBestCheckpoint } from "./bestModel.js";
import {
  type CallbackHandler,
  newTrainerControl,
  newTrainerState,
  type TrainerControl,
  type TrainerEvent,
  type TrainerState,
} from "./callbacks.js";
import { keepOnly, rotate, writeCheckpoint } from "./checkpoint/folders.js";
import { writeSynced } from "./checkpoint/manifest.js";
import { type Progress, stateJson, TRAINER_STATE, writeResumable } from "./checkpoint/resumable.js";
import type { Evaluator } from "./evaluator.js";
import type { RunControl } from "./handle/control.js";
import { UpdateGuard } from "./health/guard.js";
import type { HealthWatch } from "./health/watch.js";
import { lengthGroupedEpoch } from "./lengthGrouped.js";
import { loadBest } from "./loadBest.js";
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
  /** What is asked of the run from outside. */
  control: RunControl;
  health: HealthWatch;
  /** Absent without an eval_dataset. */
  evaluator?: Evaluator;
  log: (line: string) => void;
}

export class Loop {
  readonly #run: PreparedRun;
  readonly #plan: Plan;
  readonly #args: TrainingArguments;
  readonly #optimizer: Optimizer;
  readonly #scheduler: Scheduler;
  readonly #options: LoopOptions;
  readonly #guard: UpdateGuard;
  #state: TrainerState;
  #control: TrainerControl = newTrainerControl();
  #progress: Progress = {
    lossSum: 0,
    lossSinceLog: 0,
    lastLoggedStep: 0,
    tokens: 0,
    seconds: 0,
    skipped: 0,
    skippedSinceLog: 0,
    epochsEnded: 0,
    evaluationPending: false,
  };
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
    this.#guard = new UpdateGuard(options.health, run, optimizer);
    this.#scheduler = createScheduler(args, { maxSteps: plan.maxSteps });
    this.#state = newTrainerState(args, {
      max_steps: plan.maxSteps,
      num_train_epochs: plan.epochs,
      train_batch_size: args.per_device_train_batch_size,
    });
  }

  /** As if the run had never stopped at the checkpoint of that path. */
  continueFrom({ state, progress }: { state: TrainerState; progress: Progress }, path: string): void {
    this.#state = state;
    this.#progress = progress;
    const { loss, gradNorm, learningRate } = progress.last ?? {};
    this.#last = {
      loss: loss ?? Number.NaN,
      gradNorm: gradNorm ?? Number.NaN,
      learningRate: learningRate ?? Number.NaN,
    };
    this.#options.callbacks.loadStates(state.stateful_callbacks);
    if (progress.schedule) this.#scheduler.metric?.restore(progress.schedule);
    this.#savedStep = state.global_step;
    this.#savedPath = path;
  }

  /** Before `continueFrom`: the Trainer tells of its making first. */
  initEnd(): Promise<void> {
    return this.#tell("onInitEnd");
  }

  async run(): Promise<TrainOutput> {
    this.#startedAt = performance.now();
    this.#tokensAtStart = this.#progress.tokens;
    await this.#tell("onTrainBegin");
    const { stepsPerEpoch } = this.#plan;
    const firstEpoch = Math.floor(this.#state.global_step / stepsPerEpoch);
    let interrupted = await this.#beforeEpochs();
    // Early stopping ends a resumed run at once, when it had ended the run before.
    const over = this.#state.global_step > 0 && this.#control.should_training_stop;
    for (let epoch = firstEpoch; epoch < this.#plan.epochs && !interrupted && !over; epoch++) {
      if (this.#state.global_step >= this.#plan.maxSteps) break;
      interrupted = await this.#epoch(epoch, epoch === firstEpoch ? this.#state.global_step % stepsPerEpoch : 0);
      if (interrupted || this.#control.should_training_stop) break;
    }
    if (interrupted) {
      if (this.#savedStep !== this.#state.global_step) await this.#save();
      await this.#tell("onTrainEnd");
      return this.#output({}, true);
    }
    return this.#finish();
  }

  /** The first evaluation, and after a resume what the run had still to do at its last update; true when asked to stop. */
  async #beforeEpochs(): Promise<boolean> {
    const { global_step: step, log_history } = this.#state;
    if (step === 0) {
      if (this.#args.eval_on_start && log_history.length === 0) await this.#evaluate({ onStart: true });
      return this.#progress.evaluationPending;
    }
    this.#state.best_model_checkpoint = await findBestCheckpoint(this.#state, this.#args.output_dir);
    if (this.#progress.evaluationPending) {
      this.#control.should_evaluate = true;
      await this.#logAndSave();
    }
    const { stepsPerEpoch, maxSteps } = this.#plan;
    const epoch = Math.ceil(step / stepsPerEpoch);
    const complete = step % stepsPerEpoch === 0 || step >= maxSteps || this.#control.should_training_stop;
    if (complete && this.#progress.epochsEnded < epoch && !this.#progress.evaluationPending)
      await this.#endEpoch(epoch);
    return this.#progress.evaluationPending;
  }

  /** @param epoch how many are over now */
  async #endEpoch(epoch: number): Promise<void> {
    await this.#tell("onEpochEnd");
    this.#progress.epochsEnded = epoch;
    await this.#logAndSave();
  }

  /** Trains one epoch from its update `firstStep` on; true when the run was asked to stop. */
  async #epoch(epoch: number, firstStep: number): Promise<boolean> {
    const { gradient_accumulation_steps: accumulation } = this.#args;
    await this.#tell("onEpochBegin");
    if (firstStep === 0) drawLoaderSeed(); // a run resumed inside an epoch has this draw in its generator's state
    const order = await this.#order(epoch, firstStep > 0);
    let interrupted = false;
    for (let step = firstStep; step < this.#plan.stepsPerEpoch; step++) {
      const [first, end] = windowOf(this.#plan, step, accumulation);
      await this.#tell("onStepBegin");
      if (!(await this.#update(order, first, end))) break;
      this.#state.epoch = epoch + end / this.#plan.batchesPerEpoch;
      await this.#tell("onStepEnd");
      await this.#logAndSave();
      await this.#attend();
      interrupted = this.#options.stopRequested();
      if (interrupted || this.#control.should_epoch_stop || this.#control.should_training_stop) break;
    }
    // A stop in the middle is no epoch's end; at the end of the run or the epoch it is.
    const { evaluationPending } = this.#progress;
    if (interrupted && (this.#state.global_step < this.#plan.maxSteps || evaluationPending)) return true;
    await this.#endEpoch(epoch + 1);
    return this.#progress.evaluationPending;
  }

  /** Row numbers of an epoch. Grouping by length draws from the default generator, so a resumed epoch needs its state. */
  async #order(epoch: number, resumed: boolean): Promise<Int32Array> {
    const args = this.#args;
    if (args.train_sampling_strategy !== "group_by_length") return epochOrder(this.#plan.examples, epoch, args);
    const lengths = this.#run.examples.map(({ inputIds }) => inputIds.length);
    const before = resumed ? Buffer.from(this.#progress.epochRandom!, "base64") : undefined;
    const { order, state } = await lengthGroupedEpoch(lengths, this.#plan.effectiveBatch, before);
    this.#progress.epochRandom = Buffer.from(state).toString("base64");
    return order;
  }

  /** Between two updates: what was asked from outside, a checkpoint or a pause; a pause is no time of training. */
  async #attend(): Promise<void> {
    this.#startedAt += await this.#options.control.between(this.#state.global_step, async () => {
      if (this.#savedStep !== this.#state.global_step) await this.#save();
      return this.#savedPath!;
    });
  }

  /** One update; false when a callback stopped it half-way, at `onSubstepEnd`: its gradients are dropped. */
  async #update(order: Int32Array, first: number, end: number): Promise<boolean> {
    const args = this.#args;
    const run = this.#run;
    const size = args.per_device_train_batch_size;
    const window: Sequence[][] = [];
    for (let batch = first; batch < end; batch++) {
      window.push(Array.from(order.subarray(batch * size, (batch + 1) * size), (row) => run.examples[row]!));
    }
    const learningRate = this.#scheduler.learningRate(this.#state.global_step);
    const result = await accumulate(run, window, async (last) => {
      if (last) await this.#guard.checkAdapter(window);
      else await this.#tell("onSubstepEnd");
      return last || !(this.#control.should_epoch_stop || this.#control.should_training_stop);
    });
    if (!result) return false;
    const rows = order.subarray(first * size, end * size);
    const place = { step: this.#state.global_step + 1, epoch: this.#state.epoch, learningRate, rows };
    if (!(await this.#guard.admits(result, place, this.#savedPath))) {
      // Its data counts as used and the schedule moves on: the place in the data stays a matter of global_step alone.
      this.#last.learningRate = learningRate;
      this.#state.global_step++;
      this.#progress.skipped++;
      this.#progress.skippedSinceLog++;
      return true;
    }
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
    this.#state.total_flos += this.#flops(result.paddedTokens);
    const counted = args.include_num_input_tokens_seen;
    if (counted !== "no") {
      this.#state.num_input_tokens_seen += counted === "non_padding" ? result.tokens : result.paddedTokens;
    }
    this.#last = { loss: result.loss, gradNorm: result.gradNorm, learningRate };
    return true;
  }

  /** The Trainer's estimate: 6 × padded tokens × parameters outside the embeddings. */
  #flops(paddedTokens: number): number {
    const { vocabSize, hiddenSize } = this.#run.model.config;
    return 6 * paddedTokens * (this.#run.totalParameters - vocabSize * hiddenSize);
  }

  async #logAndSave(): Promise<void> {
    if (this.#control.should_log && this.#state.global_step > this.#progress.lastLoggedStep) await this.#logLoss();
    if (this.#control.should_evaluate) await this.#evaluate();
    if (this.#control.should_save) {
      if (this.#savedStep !== this.#state.global_step) await this.#save();
      this.#control.should_save = false;
    }
  }

  /** Measures the model, and lets what follows a metric take it up. */
  async #evaluate({ onStart = false } = {}): Promise<void> {
    const { evaluator, stopRequested } = this.#options;
    if (!evaluator) throw new UserError("A callback asked for an evaluation, but there is no eval_dataset: set one.");
    const onBatch = (batch: number, batches: number) => this.#tell("onPredictionStep", { batch, batches });
    const measured = await evaluator.evaluate(onBatch, stopRequested);
    this.#progress.evaluationPending = measured === undefined;
    if (!measured) return;
    const metrics = { ...measured, eval_num_tokens: this.#progress.tokens };
    await this.#record(metrics);
    await this.#tell("onEvaluate", { metrics: { ...metrics, epoch: this.#state.epoch } });
    this.#savedStep = -1; // a checkpoint of this update would not know of it
    const metric = onStart ? undefined : metricOf(metrics, this.#args);
    if (metric === undefined) return;
    this.#scheduler.metric?.observe(metric);
    const best = noteBest(this.#state, metric, this.#args);
    if (this.#args.save_strategy === "best") this.#control.should_save = best;
  }

  async #logLoss(): Promise<void> {
    const { gradNorm, learningRate } = this.#last;
    const progress = this.#progress;
    const { skippedSinceLog: skipped } = progress;
    const made = this.#state.global_step - progress.lastLoggedStep - skipped;
    const entry: Record<string, number> = {};
    if (made > 0) Object.assign(entry, { loss: progress.lossSinceLog / made, grad_norm: gradNorm });
    entry.learning_rate = learningRate;
    if (skipped > 0) entry.skipped_updates = skipped;
    await this.#record(entry, this.#tokenSpeed());
    progress.lossSinceLog = 0;
    progress.skippedSinceLog = 0;
    progress.lastLoggedStep = this.#state.global_step;
  }

  /** What `include_num_input_tokens_seen` also adds to each log entry of training. */
  #tokenSpeed(): Record<string, number> {
    const seconds = this.#seconds();
    return { train_runtime: seconds, train_tokens_per_second: this.#state.num_input_tokens_seen / seconds };
  }

  async #record(entry: Record<string, number>, speed: Record<string, number> = {}): Promise<void> {
    const { epoch, num_input_tokens_seen } = this.#state;
    const logs: Record<string, number> = { ...entry, epoch };
    if (this.#args.include_num_input_tokens_seen !== "no") Object.assign(logs, { num_input_tokens_seen, ...speed });
    this.#state.log_history.push({ ...logs, step: this.#state.global_step });
    await this.#tell("onLog", { logs });
  }

  async #save(): Promise<void> {
    const args = this.#args;
    const step = this.#state.global_step;
    await noteBestCheckpoint(this.#state, args.output_dir, step);
    this.#state.stateful_callbacks = this.#options.callbacks.saveStates();
    this.#progress.schedule = this.#scheduler.metric?.state();
    this.#progress.last = this.#last;
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
    await rotate(args.output_dir, step, args.save_total_limit, this.#state.best_model_checkpoint);
    await this.#tell("onSave", { checkpoint: path });
  }

  async #finish(): Promise<TrainOutput> {
    const seconds = this.#seconds();
    const { global_step: steps } = this.#state;
    const whole = this.#args.max_steps <= 0 && steps >= this.#plan.maxSteps;
    const epochs = whole ? this.#args.num_train_epochs : undefined;
    const samples = epochs === undefined ? steps * this.#plan.effectiveBatch : Math.round(this.#plan.examples * epochs);
    const metrics: Record<string, number> = {
      train_runtime: seconds,
      train_samples_per_second: samples / seconds,
      train_steps_per_second: steps / seconds,
      train_tokens_per_second: this.#progress.tokens / seconds,
      total_flos: this.#state.total_flos,
    };
    if (steps > this.#progress.skipped) metrics.train_loss = this.#meanLoss();
    await this.#record(metrics);
    if (this.#args.load_best_model_at_end) await loadBest(this.#run, this.#args, this.#state, this.#options.log);
    await writeResult(this.#args.output_dir, this.#run, this.#state);
    const { best_model_checkpoint: best } = this.#state;
    if (best !== null && this.#args.save_total_limit === 1) await keepOnly(this.#args.output_dir, best);
    await this.#tell("onTrainEnd");
    return this.#output(metrics, false);
  }

  #output(metrics: Record<string, number>, interrupted: boolean): TrainOutput {
    const steps = this.#state.global_step;
    return {
      global_step: steps,
      training_loss: this.#meanLoss(),
      metrics,
      interrupted,
      checkpoint: this.#savedPath,
    };
  }

  /** Of all updates that were made; NaN when there was none. */
  #meanLoss(): number {
    return this.#progress.lossSum / (this.#state.global_step - this.#progress.skipped);
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
