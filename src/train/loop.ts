/** One run while it goes: epochs of windows of micro-batches, with the Trainer's events, logs and checkpoints. */
import type { CallbackHandler } from "../callbacks/callbacks.js";
import { lengthGroupedEpoch } from "../data/lengthGrouped.js";
import { drawLoaderSeed, epochOrder } from "../data/order.js";
import { metricOf } from "../evaluate/bestModel.js";
import { type Evaluator, prefixOf } from "../evaluate/evaluator.js";
import type { Optimizer } from "../optim/optimizer.js";
import type { TrainOutput } from "../runFolder/state.js";
import type { StatusWriter } from "../runFolder/status.js";
import { UserError } from "../support/errors.js";
import { rngStates, setRngStates } from "../torch/index.js";
import type { ControlFile } from "./controlFile.js";
import type { HealthWatch } from "./health/watch.js";
import { Ledger } from "./ledger.js";
import { LossScaler } from "./lossScaler.js";
import { windowOf } from "./plan.js";
import type { PreparedRun } from "./prepare.js";
import type { Requests } from "./requests.js";
import { resumeState } from "./saving/resume.js";
import { Saver } from "./saving/saver.js";
import type { Settings } from "./settings.js";
import { Updates } from "./updates.js";

export interface LoopOptions {
  callbacks: CallbackHandler;
  /** What is asked of the run from outside. */
  requests: Requests;
  /** More of it, by lines in a file. */
  control: ControlFile;
  health: HealthWatch;
  status: StatusWriter;
  evaluator: Evaluator;
  /** Checkpoints that were found damaged. */
  damaged: ReadonlySet<string>;
  log: (line: string) => void;
}

export class Loop {
  readonly #run: PreparedRun;
  readonly #settings: Settings;
  readonly #options: LoopOptions;
  readonly #ledger: Ledger;
  readonly #saver: Saver;
  readonly #updates: Updates;
  /** Of fp16. */
  readonly #scaler: LossScaler | undefined;

  constructor(run: PreparedRun, settings: Settings, optimizer: Optimizer, options: LoopOptions) {
    this.#run = run;
    this.#settings = settings;
    this.#options = options;
    this.#scaler = settings.args.fp16 ? new LossScaler() : undefined;
    this.#ledger = new Ledger(settings, options.callbacks, run.device, this.#scaler);
    this.#saver = new Saver(run, settings, optimizer, this.#ledger, options.damaged);
    const { health } = options;
    const parts = { run, settings, optimizer, health, ledger: this.#ledger, saver: this.#saver, scaler: this.#scaler };
    this.#updates = new Updates(parts);
  }

  /** What the run has done so far. */
  get ledger(): Ledger {
    return this.#ledger;
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
    this.#settings.repeatChanges(step, this.#options.log);
    const saved = await resumeState(path, this.#run, this.#settings, this.#options.log);
    await this.#saver.restore(path);
    this.#ledger.continueFrom(saved);
    await this.#saver.continueFrom(path);
    this.#options.status.update({ checkpoint: path });
    if (saved.tally.schedule) this.#settings.scheduler.metric?.restore(saved.tally.schedule);
  }

  async run(): Promise<TrainOutput> {
    const ledger = this.#ledger;
    ledger.start();
    await ledger.tell("onTrainBegin");
    let stopped = await this.#beforeEpochs();
    const over = ledger.step > 0 && ledger.control.should_training_stop; // early stopping had ended a resumed run
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
      if (!(await this.#updates.make(order, first, end))) break;
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
    const lengths = this.#run.sequences.map(({ inputIds }) => inputIds.length);
    const before = resumed ? Buffer.from(this.#ledger.tally.epochRandom!, "base64") : undefined;
    const { order, state } = await lengthGroupedEpoch(lengths, plan.effectiveBatch, before);
    this.#ledger.keepEpochRandom(state);
    return order;
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
    const { evaluations } = this.#run;
    if (evaluations.length === 0)
      throw new UserError(
        "An evaluation was asked for, but there is nothing to evaluate on: set eval_dataset, and eval_strategy to steps or epoch.",
      );
    const metrics: Record<string, number> = {};
    const measured: Record<string, number>[] = [];
    const before = await rngStates(this.#run.device);
    for (const set of evaluations) {
      const prefix = prefixOf("eval", set);
      const found = await status.during("evaluating", () =>
        evaluator.evaluate(set, {
          prefix,
          onBatch: (batch, batches) => ledger.tell("onPredictionStep", { batch, batches }),
          stopRequested: () => requests.stopRequested,
        }),
      );
      if (!found) {
        setRngStates(before); // all of them are made again
        ledger.evaluationStopped();
        return undefined;
      }
      measured.push({ ...found, [`${prefix}_num_tokens`]: ledger.tally.tokens });
    }
    // Told when all are there: an evaluation that was cut off is made again as a whole.
    for (const each of measured) {
      await ledger.recordEvaluation(each);
      Object.assign(metrics, each);
    }
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
    if (this.#settings.repeatChanges(ledger.step, this.#options.log)) ledger.settingsChanged();
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
        return changes;
      },
      paused: (work) => this.#options.status.during("paused", work),
    });
    ledger.addPause(paused);
  }

  async #interrupt(): Promise<TrainOutput> {
    await this.#save(true);
    await this.#ledger.tell("onTrainEnd");
    return this.#ledger.output({}, true, this.#saver.path);
  }

  async #finish(): Promise<TrainOutput> {
    const ledger = this.#ledger;
    const metrics = ledger.runMetrics();
    await ledger.record(metrics);
    await this.#options.status.during("saving", () => this.#saver.finish(this.#options.log));
    await ledger.tell("onTrainEnd");
    return ledger.output(metrics, false, this.#saver.path);
  }
}
