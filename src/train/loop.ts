/** One run while it goes: epochs of windows of micro-batches, with the Trainer's events, logs and checkpoints. */
import { join } from "node:path";
import type { TrainingArguments } from "../arguments/index.js";
import type { CallbackHandler, TrainerState } from "../callbacks/callbacks.js";
import { lengthGroupedEpoch } from "../data/lengthGrouped.js";
import { drawLoaderSeed, epochOrder } from "../data/order.js";
import { findBestCheckpoint, metricOf, noteBest, noteBestCheckpoint } from "../evaluate/bestModel.js";
import type { Evaluator } from "../evaluate/evaluator.js";
import type { Sequence } from "../models/batch.js";
import type { Optimizer } from "../optim/optimizer.js";
import { createScheduler, type Scheduler } from "../optim/schedulers.js";
import { keepOnly, rotate, writeCheckpoint } from "../runFolder/checkpoints.js";
import { writeSynced } from "../runFolder/manifest.js";
import { UserError } from "../support/errors.js";
import { span } from "../support/spans.js";
import { peakDeviceMemory } from "../torch/index.js";
import { UpdateGuard } from "./health/guard.js";
import type { HealthWatch } from "./health/watch.js";
import { Ledger, type TrainOutput } from "./ledger.js";
import { LossScaler } from "./lossScaler.js";
import { type Plan, windowOf } from "./plan.js";
import type { PreparedRun } from "./prepare.js";
import type { Requests } from "./requests.js";
import { writeModelFiles, writeResult } from "./saving/artifacts.js";
import { loadBest } from "./saving/loadBest.js";
import { type Progress, stateJson, TRAINER_STATE, writeResumable } from "./saving/resumable.js";
import { accumulate, dropGradients, type StepResult, update } from "./step.js";

export interface LoopOptions {
  callbacks: CallbackHandler;
  stopRequested: () => boolean;
  /** What is asked of the run from outside. */
  requests: Requests;
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
  readonly #ledger: Ledger;
  readonly #guard: UpdateGuard;
  /** Of fp16. */
  #scaler: LossScaler | undefined;

  constructor(run: PreparedRun, plan: Plan, args: TrainingArguments, optimizer: Optimizer, options: LoopOptions) {
    this.#run = run;
    this.#plan = plan;
    this.#args = args;
    this.#optimizer = optimizer;
    this.#options = options;
    this.#guard = new UpdateGuard(options.health, run, optimizer);
    this.#scheduler = createScheduler(args, { maxSteps: plan.maxSteps });
    this.#ledger = new Ledger(args, plan, options.callbacks, run.device);
    this.#scaleLosses();
  }

  /** As if the run had never stopped at the checkpoint of that path. */
  continueFrom(saved: { state: TrainerState; progress: Progress }, path: string): void {
    this.#ledger.continueFrom(saved, path);
    this.#scaleLosses();
    if (saved.progress.schedule) this.#scheduler.metric?.restore(saved.progress.schedule);
  }

  /** With fp16: the ledger keeps the scale, and logs it. */
  #scaleLosses(): void {
    const { progress } = this.#ledger;
    this.#scaler = this.#args.fp16 ? new LossScaler(progress.lossScaler) : undefined;
    progress.lossScaler = this.#scaler?.state;
  }

  /** Before `continueFrom`: the Trainer tells of its making first. */
  initEnd(): Promise<void> {
    return this.#ledger.tell("onInitEnd");
  }

  async run(): Promise<TrainOutput> {
    this.#ledger.start();
    await this.#ledger.tell("onTrainBegin");
    const { stepsPerEpoch } = this.#plan;
    const firstEpoch = Math.floor(this.#ledger.state.global_step / stepsPerEpoch);
    let interrupted = await this.#beforeEpochs();
    // Early stopping ends a resumed run at once, when it had ended the run before.
    const over = this.#ledger.state.global_step > 0 && this.#ledger.control.should_training_stop;
    for (let epoch = firstEpoch; epoch < this.#plan.epochs && !interrupted && !over; epoch++) {
      if (this.#ledger.state.global_step >= this.#plan.maxSteps) break;
      interrupted = await this.#epoch(epoch, epoch === firstEpoch ? this.#ledger.state.global_step % stepsPerEpoch : 0);
      if (interrupted || this.#ledger.control.should_training_stop) break;
    }
    if (interrupted) {
      if (this.#ledger.savedStep !== this.#ledger.state.global_step) await this.#save();
      await this.#ledger.tell("onTrainEnd");
      return this.#ledger.output({}, true);
    }
    return this.#finish();
  }

  /** The first evaluation, and after a resume what the run had still to do at its last update; true when asked to stop. */
  async #beforeEpochs(): Promise<boolean> {
    const { global_step: step, log_history } = this.#ledger.state;
    if (step === 0) {
      if (this.#args.eval_on_start && log_history.length === 0) await this.#evaluate({ onStart: true });
      return this.#ledger.progress.evaluationPending;
    }
    this.#ledger.state.best_model_checkpoint = await findBestCheckpoint(this.#ledger.state, this.#args.output_dir);
    if (this.#ledger.progress.evaluationPending) {
      this.#ledger.control.should_evaluate = true;
      await this.#logAndSave();
    }
    const { stepsPerEpoch, maxSteps } = this.#plan;
    const epoch = Math.ceil(step / stepsPerEpoch);
    const complete = step % stepsPerEpoch === 0 || step >= maxSteps || this.#ledger.control.should_training_stop;
    if (complete && this.#ledger.progress.epochsEnded < epoch && !this.#ledger.progress.evaluationPending)
      await this.#endEpoch(epoch);
    return this.#ledger.progress.evaluationPending;
  }

  /** @param epoch how many are over now */
  async #endEpoch(epoch: number): Promise<void> {
    await this.#ledger.tell("onEpochEnd");
    this.#ledger.progress.epochsEnded = epoch;
    await this.#logAndSave();
  }

  /** Trains one epoch from its update `firstStep` on; true when the run was asked to stop. */
  async #epoch(epoch: number, firstStep: number): Promise<boolean> {
    const { gradient_accumulation_steps: accumulation } = this.#args;
    await this.#ledger.tell("onEpochBegin");
    if (firstStep === 0) drawLoaderSeed(); // a run resumed inside an epoch has this draw in its generator's state
    const order = await this.#order(epoch, firstStep > 0);
    let interrupted = false;
    for (let step = firstStep; step < this.#plan.stepsPerEpoch; step++) {
      const [first, end] = windowOf(this.#plan, step, accumulation);
      await this.#ledger.tell("onStepBegin");
      if (!(await this.#update(order, first, end))) break;
      this.#ledger.state.epoch = epoch + end / this.#plan.batchesPerEpoch;
      await this.#ledger.tell("onStepEnd");
      await this.#logAndSave();
      await this.#attend();
      interrupted = this.#options.stopRequested();
      if (interrupted || this.#ledger.control.should_epoch_stop || this.#ledger.control.should_training_stop) break;
    }
    // A stop in the middle is no epoch's end; at the end of the run or the epoch it is.
    const { evaluationPending } = this.#ledger.progress;
    if (interrupted && (this.#ledger.state.global_step < this.#plan.maxSteps || evaluationPending)) return true;
    await this.#endEpoch(epoch + 1);
    return this.#ledger.progress.evaluationPending;
  }

  /** Row numbers of an epoch. Grouping by length draws from the default generator, so a resumed epoch needs its state. */
  async #order(epoch: number, resumed: boolean): Promise<Int32Array> {
    const args = this.#args;
    if (args.train_sampling_strategy !== "group_by_length") return epochOrder(this.#plan.examples, epoch, args);
    const lengths = this.#run.examples.map(({ inputIds }) => inputIds.length);
    const before = resumed ? Buffer.from(this.#ledger.progress.epochRandom!, "base64") : undefined;
    const { order, state } = await lengthGroupedEpoch(lengths, this.#plan.effectiveBatch, before);
    this.#ledger.progress.epochRandom = Buffer.from(state).toString("base64");
    return order;
  }

  /** Between two updates: what was asked from outside, a checkpoint or a pause; a pause is no time of training. */
  async #attend(): Promise<void> {
    const paused = await this.#options.requests.between(this.#ledger.state.global_step, async () => {
      if (this.#ledger.savedStep !== this.#ledger.state.global_step) await this.#save();
      return this.#ledger.savedPath!;
    });
    this.#ledger.addPause(paused);
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
    const learningRate = this.#scheduler.learningRate(
      this.#ledger.state.global_step - this.#ledger.progress.scheduleLag,
    );
    const lossScale = this.#scaler?.scale ?? 1;
    const result = await accumulate(run, window, lossScale, async (last) => {
      if (last) await this.#guard.checkAdapter(window);
      else await this.#ledger.tell("onSubstepEnd");
      return last || !(this.#ledger.control.should_epoch_stop || this.#ledger.control.should_training_stop);
    });
    if (!result) return false;
    if (this.#scaler?.mayOverflow && Number.isFinite(result.loss) && !Number.isFinite(result.gradNorm)) {
      await this.#overflow(this.#scaler, result, learningRate);
      return true;
    }
    const rows = order.subarray(first * size, end * size);
    const place = { step: this.#ledger.state.global_step + 1, epoch: this.#ledger.state.epoch, learningRate, rows };
    if (!(await this.#guard.admits(result, place, this.#ledger.savedPath))) {
      this.#ledger.countSkipped(learningRate);
      return true;
    }
    await this.#ledger.tell("onPreOptimizerStep");
    const { gradNorm } = result;
    span("JavaScript", () =>
      update(run.parameters, this.#optimizer, { gradNorm, maxGradNorm: args.max_grad_norm, learningRate, lossScale }),
    );
    await this.#ledger.tell("onOptimizerStep");
    this.#scaler?.good();
    this.#ledger.countUpdate(result, learningRate, this.#flops(result.paddedTokens));
    return true;
  }

  /** Too large a loss scale, and no fault of the data: the update is left out, with the events of one that is made. */
  async #overflow(scaler: LossScaler, result: StepResult, learningRate: number): Promise<void> {
    dropGradients(this.#run.parameters);
    await this.#ledger.tell("onPreOptimizerStep");
    await this.#ledger.tell("onOptimizerStep");
    scaler.overflow();
    // As in Accelerate: the schedule waits, but with PyTorch's fused optimizer, which does not tell that it did nothing.
    if (this.#args.optim !== "adamw_torch_fused") this.#ledger.progress.scheduleLag++;
    this.#ledger.countUpdate(result, learningRate, this.#flops(result.paddedTokens));
  }

  /** The Trainer's estimate: 6 × padded tokens × parameters outside the embeddings. */
  #flops(paddedTokens: number): number {
    const { vocabSize, hiddenSize } = this.#run.model.config;
    return 6 * paddedTokens * (this.#run.totalParameters - vocabSize * hiddenSize);
  }

  async #logAndSave(): Promise<void> {
    if (this.#ledger.control.should_log && this.#ledger.state.global_step > this.#ledger.progress.lastLoggedStep)
      await this.#ledger.logLoss();
    if (this.#ledger.control.should_evaluate) await this.#evaluate();
    if (this.#ledger.control.should_save) {
      if (this.#ledger.savedStep !== this.#ledger.state.global_step) await this.#save();
      this.#ledger.control.should_save = false;
    }
  }

  /** Measures the model, and lets what follows a metric take it up. */
  async #evaluate({ onStart = false } = {}): Promise<void> {
    const { evaluator, stopRequested } = this.#options;
    if (!evaluator) throw new UserError("A callback asked for an evaluation, but there is no eval_dataset: set one.");
    const onBatch = (batch: number, batches: number) => this.#ledger.tell("onPredictionStep", { batch, batches });
    const measured = await evaluator.evaluate(onBatch, stopRequested);
    this.#ledger.progress.evaluationPending = measured === undefined;
    if (!measured) return;
    const metrics = { ...measured, eval_num_tokens: this.#ledger.progress.tokens };
    await this.#ledger.record(metrics);
    await this.#ledger.tell("onEvaluate", { metrics: { ...metrics, epoch: this.#ledger.state.epoch } });
    this.#ledger.savedStep = -1; // a checkpoint of this update would not know of it
    const metric = onStart ? undefined : metricOf(metrics, this.#args);
    if (metric === undefined) return;
    this.#scheduler.metric?.observe(metric);
    const best = noteBest(this.#ledger.state, metric, this.#args);
    if (this.#args.save_strategy === "best") this.#ledger.control.should_save = best;
  }

  async #save(): Promise<void> {
    const args = this.#args;
    const step = this.#ledger.state.global_step;
    await noteBestCheckpoint(this.#ledger.state, args.output_dir, step);
    this.#ledger.state.stateful_callbacks = this.#options.callbacks.saveStates();
    this.#ledger.progress.schedule = this.#scheduler.metric?.state();
    this.#ledger.progress.last = this.#ledger.last;
    const path = await writeCheckpoint(args.output_dir, step, async (folder) => {
      await writeModelFiles(folder, this.#run);
      if (args.save_only_model) return writeSynced(join(folder, TRAINER_STATE), stateJson(this.#ledger.state));
      await writeResumable(
        folder,
        {
          args: args.toJSON(),
          state: this.#ledger.state,
          identity: this.#run.identity,
          device: this.#run.device,
          progress: { ...this.#ledger.progress, seconds: this.#ledger.seconds() },
        },
        this.#optimizer.stateEntries(),
      );
    });
    this.#ledger.savedStep = step;
    this.#ledger.savedPath = path;
    await rotate(args.output_dir, step, args.save_total_limit, this.#ledger.state.best_model_checkpoint);
    await this.#ledger.tell("onSave", { checkpoint: path });
  }

  async #finish(): Promise<TrainOutput> {
    const seconds = this.#ledger.seconds();
    const { global_step: steps } = this.#ledger.state;
    const whole = this.#args.max_steps <= 0 && steps >= this.#plan.maxSteps;
    const epochs = whole ? this.#args.num_train_epochs : undefined;
    const samples = epochs === undefined ? steps * this.#plan.effectiveBatch : Math.round(this.#plan.examples * epochs);
    const metrics: Record<string, number> = {
      train_runtime: seconds,
      train_samples_per_second: samples / seconds,
      train_steps_per_second: steps / seconds,
      train_tokens_per_second: this.#ledger.progress.tokens / seconds,
      total_flos: this.#ledger.state.total_flos,
    };
    const peak = peakDeviceMemory(this.#run.device);
    if (peak !== undefined) metrics.train_peak_device_memory = peak;
    if (this.#scaler) metrics.train_overflows = this.#scaler.state.overflows;
    if (steps > this.#ledger.progress.skipped) metrics.train_loss = this.#ledger.meanLoss();
    await this.#ledger.record(metrics);
    if (this.#args.load_best_model_at_end) await loadBest(this.#run, this.#args, this.#ledger.state, this.#options.log);
    await writeResult(this.#args.output_dir, this.#run, this.#ledger.state);
    const { best_model_checkpoint: best } = this.#ledger.state;
    if (best !== null && this.#args.save_total_limit === 1) await keepOnly(this.#args.output_dir, best);
    await this.#ledger.tell("onTrainEnd");
    return this.#ledger.output(metrics, false);
  }
}
