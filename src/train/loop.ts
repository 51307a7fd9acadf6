/** One run while it goes: epochs of windows of micro-batches, with the Trainer's events, logs and checkpoints. */
import type { CallbackHandler } from "../callbacks/callbacks.js";
import { lengthGroupedEpoch } from "../data/lengthGrouped.js";
import { drawLoaderSeed, epochOrder } from "../data/order.js";
import { metricOf } from "../evaluate/bestModel.js";
import type { Evaluator } from "../evaluate/evaluator.js";
import type { Sequence } from "../models/batch.js";
import type { Optimizer } from "../optim/optimizer.js";
import type { Change } from "../runFolder/record.js";
import type { TrainOutput } from "../runFolder/state.js";
import type { StatusWriter } from "../runFolder/status.js";
import { UserError } from "../support/errors.js";
import { peakDeviceMemory } from "../torch/index.js";
import type { StepResult } from "./accumulate.js";
import type { ControlFile } from "./controlFile.js";
import { AdapterCheck } from "./health/adapterGradients.js";
import type { HealthWatch } from "./health/watch.js";
import { Ledger } from "./ledger.js";
import { LossScaler } from "./lossScaler.js";
import { windowOf } from "./plan.js";
import type { PreparedRun } from "./prepare.js";
import type { Requests } from "./requests.js";
import { resumeState } from "./saving/resume.js";
import { Saver } from "./saving/saver.js";
import type { Settings } from "./settings.js";
import { makeUpdate, UpdateFailure } from "./update.js";

export interface LoopOptions {
  callbacks: CallbackHandler;
  /** What is asked of the run from outside. */
  requests: Requests;
  /** More of it, by lines in a file. */
  control: ControlFile;
  /** Settings that were changed in an earlier start, each to be changed again at its update. */
  changes: readonly Change[];
  health: HealthWatch;
  status: StatusWriter;
  /** Absent without an eval_dataset. */
  evaluator?: Evaluator;
  /** Checkpoints that were found damaged. */
  damaged: ReadonlySet<string>;
  log: (line: string) => void;
}

export class Loop {
  readonly #run: PreparedRun;
  readonly #settings: Settings;
  readonly #optimizer: Optimizer;
  readonly #options: LoopOptions;
  readonly #ledger: Ledger;
  readonly #saver: Saver;
  readonly #adapterCheck: AdapterCheck;
  /** Of fp16. */
  readonly #scaler: LossScaler | undefined;
  /** Changes of an earlier start that are still to be made again. */
  #repeated: readonly Change[];

  constructor(run: PreparedRun, settings: Settings, optimizer: Optimizer, options: LoopOptions) {
    this.#run = run;
    this.#settings = settings;
    this.#optimizer = optimizer;
    this.#options = options;
    this.#repeated = options.changes;
    this.#scaler = settings.args.fp16 ? new LossScaler() : undefined;
    this.#ledger = new Ledger(settings, options.callbacks, run.device, this.#scaler);
    this.#saver = new Saver(run, settings, optimizer, this.#ledger, options.damaged);
    this.#adapterCheck = new AdapterCheck(run.parameters);
  }

  /** The first event; comes before `continueFrom`, as the Trainer tells of its making first. */
  initEnd(): Promise<void> {
    return this.#ledger.tell("onInitEnd");
  }

  /**
   * As if the run had never stopped at the checkpoint of that path.
   * @throws DamagedCheckpoint when another one may do; UserError when it is of another run
   */
  async continueFrom({ step, path }: { step: number; path: string }): Promise<void> {
    this.#repeatChanges(step);
    const saved = await resumeState(path, this.#run, this.#settings, this.#options.log);
    await this.#saver.restore(path);
    this.#ledger.continueFrom(saved);
    await this.#saver.continueFrom(path);
    if (saved.tally.schedule) this.#settings.scheduler.metric?.restore(saved.tally.schedule);
  }

  async run(): Promise<TrainOutput> {
    const ledger = this.#ledger;
    ledger.start();
    await ledger.tell("onTrainBegin");
    const over = ledger.step > 0 && ledger.control.should_training_stop; // early stopping had ended it before
    let stopped = await this.#beforeEpochs();
    const { stepsPerEpoch } = this.#settings.plan;
    const first = Math.floor(ledger.step / stepsPerEpoch);
    for (let epoch = first; !stopped && !over && this.#goesOn(epoch); epoch++) {
      stopped = await this.#epoch(epoch, epoch === first ? ledger.step % stepsPerEpoch : 0);
      if (ledger.control.should_training_stop) break;
    }
    return stopped ? this.#interrupt() : this.#finish();
  }

  #goesOn(epoch: number): boolean {
    const { epochs, maxSteps } = this.#settings.plan;
    return epoch < epochs && this.#ledger.step < maxSteps;
  }

  /** The first evaluation, and after a resume what the run had still to do at its last update; true when it is to stop. */
  async #beforeEpochs(): Promise<boolean> {
    const ledger = this.#ledger;
    const { step, state, tally } = ledger;
    if (step === 0) {
      const { eval_on_start } = this.#settings.args;
      return eval_on_start && state.log_history.length === 0 && !(await this.#evaluate({ onStart: true }));
    }
    if (tally.pending) {
      ledger.want("should_evaluate", true);
      ledger.want("should_save", tally.pending.save);
      if (!(await this.#logAndSave())) return true;
    }
    const { stepsPerEpoch, maxSteps } = this.#settings.plan;
    const epoch = Math.ceil(step / stepsPerEpoch);
    const complete = step % stepsPerEpoch === 0 || step >= maxSteps || ledger.control.should_training_stop;
    return complete && tally.epochsEnded < epoch && !(await this.#endEpoch(epoch));
  }

  /** Trains one epoch from its update `firstStep` on; true when the run is to stop. */
  async #epoch(epoch: number, firstStep: number): Promise<boolean> {
    const ledger = this.#ledger;
    await ledger.tell("onEpochBegin");
    if (firstStep === 0) drawLoaderSeed(); // a run resumed inside an epoch has this draw in its generator's state
    const order = await this.#order(epoch, firstStep > 0);
    for (let step = firstStep; step < this.#settings.plan.stepsPerEpoch; step++) {
      const { args, plan } = this.#settings;
      const [first, end] = windowOf(plan, step, args.gradient_accumulation_steps);
      await ledger.tell("onStepBegin");
      if (!(await this.#update(order, first, end))) break;
      ledger.reach(epoch + end / plan.batchesPerEpoch);
      await ledger.tell("onStepEnd");
      const evaluated = await this.#logAndSave();
      await this.#attend();
      const { should_epoch_stop, should_training_stop } = ledger.control;
      // A stop in the middle is no epoch's end; at the end of the run it is.
      if (this.#options.requests.stopRequested && !(evaluated && should_training_stop)) return true;
      if (should_epoch_stop || should_training_stop) break;
    }
    return !(await this.#endEpoch(epoch + 1));
  }

  /**
   * @param epoch how many are over now
   * @returns false when the run was asked to stop before all was done
   */
  async #endEpoch(epoch: number): Promise<boolean> {
    await this.#ledger.tell("onEpochEnd");
    this.#ledger.endEpoch(epoch);
    return this.#logAndSave();
  }

  /** Row numbers of an epoch. Grouping by length draws from the default generator, so a resumed epoch needs its state. */
  async #order(epoch: number, resumed: boolean): Promise<Int32Array> {
    const { args, plan } = this.#settings;
    if (args.train_sampling_strategy !== "group_by_length") return epochOrder(plan.examples, epoch, args);
    const lengths = this.#run.examples.map(({ inputIds }) => inputIds.length);
    const before = resumed ? Buffer.from(this.#ledger.tally.epochRandom!, "base64") : undefined;
    const { order, state } = await lengthGroupedEpoch(lengths, plan.effectiveBatch, before);
    this.#ledger.keepEpochRandom(state);
    return order;
  }

  /** One update from the batches [first, end) of an epoch; false when a callback stopped it before it was made. */
  async #update(order: Int32Array, first: number, end: number): Promise<boolean> {
    const ledger = this.#ledger;
    const run = this.#run;
    const { args, scheduler } = this.#settings;
    const size = args.per_device_train_batch_size;
    const window: Sequence[][] = [];
    for (let batch = first; batch < end; batch++) {
      window.push(Array.from(order.subarray(batch * size, (batch + 1) * size), (row) => run.examples[row]!));
    }
    const learningRate = scheduler.learningRate(ledger.scheduledStep);
    const options = { learningRate, maxGradNorm: args.max_grad_norm, lossScale: this.#scaler?.scale ?? 1 };
    try {
      const result = await makeUpdate(run, this.#optimizer, window, options, {
        computed: () => this.#substeps(window),
        beforeStep: () => ledger.tell("onPreOptimizerStep"),
      });
      await ledger.tell("onOptimizerStep");
      this.#options.health.good();
      this.#scaler?.good();
      ledger.countUpdate(result, learningRate, this.#flops(result.paddedTokens));
    } catch (error) {
      if (!(error instanceof UpdateFailure) || error.kind === "memory") throw error;
      if (error.kind === "stopped") return false;
      await this.#leaveOut(error, error.result!, learningRate, order.subarray(first * size, end * size));
    }
    return true;
  }

  /** Told when all micro-batches are computed, which may have been at once; false when a callback stops the update. */
  async #substeps(window: readonly Sequence[][]): Promise<boolean> {
    await this.#adapterCheck.check(window);
    for (let batch = 1; batch < window.length; batch++) {
      await this.#ledger.tell("onSubstepEnd");
      const { should_epoch_stop, should_training_stop } = this.#ledger.control;
      if (should_epoch_stop || should_training_stop) return false;
    }
    return true;
  }

  /** An update whose numbers are not finite is not made, but counts: its data is used. @param rows it was made from */
  async #leaveOut(failure: UpdateFailure, result: StepResult, learningRate: number, rows: Int32Array): Promise<void> {
    const { loss, gradNorm } = result;
    if (this.#scaler?.mayOverflow && Number.isFinite(loss)) {
      failure.useRandom();
      return this.#overflow(this.#scaler, result, learningRate);
    }
    const { step, state } = this.#ledger;
    const sources = [...new Set([...rows].flatMap((row) => this.#run.examples[row]!.sources ?? []))];
    const place = { step: step + 1, epoch: state.epoch, learningRate, examples: [...rows], sources };
    const action = await this.#options.health.bad({ ...place, loss, gradNorm }, this.#saver.path !== undefined);
    if (action === "rollback") await this.#saver.rollBack();
    else failure.useRandom();
    this.#ledger.countSkipped(learningRate);
  }

  /** Too large a loss scale, and no fault of the data: the update is left out, with the events of one that is made. */
  async #overflow(scaler: LossScaler, result: StepResult, learningRate: number): Promise<void> {
    await this.#ledger.tell("onPreOptimizerStep");
    await this.#ledger.tell("onOptimizerStep");
    scaler.overflow();
    // As in Accelerate: the schedule waits, but with PyTorch's fused optimizer, which does not tell that it did nothing.
    if (this.#settings.args.optim !== "adamw_torch_fused") this.#ledger.holdSchedule();
    this.#ledger.countUpdate(result, learningRate, this.#flops(result.paddedTokens));
  }

  /** The Trainer's estimate: 6 × padded tokens × parameters outside the embeddings. */
  #flops(paddedTokens: number): number {
    const { vocabSize, hiddenSize } = this.#run.model.config;
    return 6 * paddedTokens * (this.#run.totalParameters - vocabSize * hiddenSize);
  }

  /** What callbacks ask for after an update or an epoch; false when the run was asked to stop before all was done. */
  async #logAndSave(): Promise<boolean> {
    const ledger = this.#ledger;
    if (ledger.control.should_log && ledger.step > ledger.tally.lastLoggedStep) await ledger.logLoss();
    const evaluated = !ledger.control.should_evaluate || (await this.#evaluate()) !== undefined;
    await this.#saveIfWanted();
    return evaluated;
  }

  async #saveIfWanted(): Promise<void> {
    if (!this.#ledger.control.should_save) return;
    await this.#save(false);
    this.#ledger.want("should_save", false);
  }

  #save(asked: boolean): Promise<string> {
    return this.#options.status.during("saving", () => this.#saver.save(asked));
  }

  /** Measures the model, and lets what follows a metric take it up; undefined when it was asked to stop on the way. */
  async #evaluate({ onStart = false } = {}): Promise<Record<string, number> | undefined> {
    const { evaluator, requests, status } = this.#options;
    const { args, scheduler } = this.#settings;
    const ledger = this.#ledger;
    if (!evaluator) throw new UserError("An evaluation was asked for, but there is no eval_dataset: set one.");
    const measured = await status.during("evaluating", () =>
      evaluator.evaluate(
        (batch, batches) => ledger.tell("onPredictionStep", { batch, batches }),
        () => requests.stopRequested,
      ),
    );
    if (!measured) {
      ledger.evaluationStopped();
      return undefined;
    }
    const metrics = { ...measured, eval_num_tokens: ledger.tally.tokens };
    await ledger.recordEvaluation(metrics);
    this.#saver.outdate();
    const metric = onStart ? undefined : metricOf(metrics, args);
    if (metric === undefined) return metrics;
    scheduler.metric?.observe(metric);
    const best = ledger.noteMetric(metric);
    if (args.save_strategy === "best") ledger.want("should_save", best);
    return metrics;
  }

  /** Between two updates: what was asked from outside. A pause is no time of training. */
  async #attend(): Promise<void> {
    const ledger = this.#ledger;
    this.#repeatChanges(ledger.step);
    await this.#options.control.poll();
    const paused = await this.#options.requests.between(ledger.step, {
      save: () => this.#save(true),
      evaluate: async () => {
        const metrics = await this.#evaluate();
        await this.#saveIfWanted();
        return metrics;
      },
      set: (values) => {
        if (ledger.control.should_training_stop) throw new UserError("the run has made its last update.");
        const changes = this.#settings.change(values, ledger.step);
        ledger.settingsChanged();
        this.#repeated = this.#repeated.filter(({ name }) => !Object.hasOwn(values, name));
        return changes;
      },
      paused: (work) => this.#options.status.during("paused", work),
    });
    ledger.addPause(paused);
  }

  /** What was set at these updates in an earlier start is set again, so that the run is the same. */
  #repeatChanges(step: number): void {
    const due = this.#repeated.filter((change) => change.step <= step);
    if (due.length === 0) return;
    this.#repeated = this.#repeated.filter((change) => change.step > step);
    for (const { name, to, step: at } of due) {
      this.#settings.change({ [name]: to }, step);
      this.#options.log(`${name} is ${to} again, as it was set after update ${at}`);
    }
    this.#ledger.settingsChanged();
  }

  async #interrupt(): Promise<TrainOutput> {
    await this.#save(true);
    await this.#ledger.tell("onTrainEnd");
    return this.#ledger.output({}, true, this.#saver.path);
  }

  async #finish(): Promise<TrainOutput> {
    const ledger = this.#ledger;
    const { args, plan } = this.#settings;
    const seconds = ledger.seconds();
    const whole = args.max_steps <= 0 && ledger.step >= plan.maxSteps;
    const samples = whole ? Math.round(plan.examples * args.num_train_epochs) : ledger.step * plan.effectiveBatch;
    const metrics: Record<string, number> = {
      train_runtime: seconds,
      train_samples_per_second: samples / seconds,
      train_steps_per_second: ledger.step / seconds,
      train_tokens_per_second: ledger.tally.tokens / seconds,
      total_flos: ledger.state.total_flos,
    };
    const peak = peakDeviceMemory(this.#run.device);
    if (peak !== undefined) metrics.train_peak_device_memory = peak;
    if (this.#scaler) metrics.train_overflows = this.#scaler.state.overflows;
    if (ledger.step > ledger.tally.skipped) metrics.train_loss = ledger.meanLoss();
    await ledger.record(metrics);
    await this.#options.status.during("saving", () => this.#saver.finish(this.#options.log));
    await ledger.tell("onTrainEnd");
    return ledger.output(metrics, false, this.#saver.path);
  }
}
