/** The public face of training: checks a config, runs it, and answers for the model before and after. */

import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { CallbackHandler, DefaultFlowCallback, type TrainerCallback } from "../callbacks/callbacks.js";
import { EarlyStoppingCallback, type EarlyStoppingOptions } from "../callbacks/earlyStopping.js";
import { EventHub, EventsCallback, type TrainingEvent } from "../callbacks/events.js";
import { ProfilerCallback } from "../callbacks/profile/profiler.js";
import { ProgressCallback } from "../callbacks/progress.js";
import { createReporters, type Outcome, type Reporter } from "../callbacks/reporters/index.js";
import { StatusCallback } from "../callbacks/status.js";
import type { EvalDatasetInput } from "../data/sources.js";
import { checkEvaluation } from "../evaluate/evaluationChecks.js";
import { type ComputeMetrics, metricsFunction } from "../evaluate/evaluator.js";
import type { TextGenerator } from "../generate/index.js";
import type { Optimizer } from "../optim/optimizer.js";
import { DamagedCheckpoint } from "../runFolder/checkpointState.js";
import { type CheckpointFolder, findCheckpoint, tidy } from "../runFolder/checkpoints.js";
import type { SettableValues } from "../runFolder/control.js";
import { HEALTH_LOG } from "../runFolder/files.js";
import { AUTO, numberedDir } from "../runFolder/outputDir.js";
import { newTrainerState, type TrainerState, type TrainOutput } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";
import { tell } from "../support/plainText.js";
import { describeEnd } from "./ending.js";
import { RunFolder } from "./folder.js";
import { type HealthConfig, healthConfig } from "./health/config.js";
import { HealthWatch } from "./health/watch.js";
import { KeptModel } from "./keptModel.js";
import { Loop } from "./loop.js";
import { createOptimizer } from "./optimizers.js";
import { prepareRun, RUN_KEYS, type RunSpec } from "./prepare.js";
import { Requests } from "./requests.js";
import { type Prediction, Session } from "./session.js";
import { Settings } from "./settings.js";
import { describePaging, describeRun } from "./summary.js";

/** What a run is made of: the keys of the config file, and what only a program can give. */
export interface TrainerConfig extends RunSpec {
  /** End the run when evaluations stop getting better. */
  early_stopping?: EarlyStoppingOptions;
  /** Metrics of your own, at each evaluation; without prefix: `accuracy` becomes `eval_accuracy`. */
  computeMetrics?: ComputeMetrics;
  /** The same, by transformers' name. */
  compute_metrics?: ComputeMetrics;
  /** Hugging Face's names, defaults and meaning. */
  training_args?: TrainingArguments | TrainingArgumentsInput;
  /** Move an earlier run in output_dir aside (to output_dir.1, .2, ...) and begin a new one. */
  overwrite_output_dir?: boolean;
  /** Told of the Trainer's 16 events, one after another in this order; the run waits for them. */
  callbacks?: TrainerCallback[];
  /** Write a Chrome trace of the first updates into this file, and say where their time went. */
  profile?: string;
  /** Gets the lines that a person should see. Default: stderr, and the run's progress is shown as well. */
  log?: (line: string) => void;
}

const KEYS: readonly string[] = [
  ...RUN_KEYS,
  ...[
    "early_stopping",
    "computeMetrics",
    "compute_metrics",
    "training_args",
    "overwrite_output_dir",
    "callbacks",
    "profile",
    "log",
  ],
];

/** The arguments with the folder that `output_dir: auto` stands for. */
function placed(args: TrainingArguments): TrainingArguments {
  if (args.output_dir !== AUTO) return args;
  return args.with({ output_dir: numberedDir(args.resume_from_checkpoint ? "newest" : "new") });
}

/**
 * Fine-tunes a model: `await new Trainer({ model, dataset, lora, training_args }).train()`.
 *
 * The model stays in memory for `evaluate()`, `predict()`, `generator()` and `saveModel()`, until `dispose()`, or until
 * nobody holds the Trainer any more.
 */
export class Trainer {
  /** Every argument with its resolved value. */
  readonly args: TrainingArguments;
  readonly #config: TrainerConfig;
  readonly #computeMetrics: ComputeMetrics | undefined;
  readonly #log: (line: string) => void;
  readonly #callbacks: TrainerCallback[];
  readonly #progress: ProgressCallback | undefined;
  readonly #notes: string[];
  readonly #health: HealthConfig;
  readonly #reporters: Reporter[];
  readonly #events = new EventHub();
  readonly #requests: Requests;
  readonly #kept = new KeptModel(this);
  #folder: RunFolder | undefined;
  #running: Promise<TrainOutput> | undefined;
  #over = false;
  #loop: Loop | undefined;
  /** Work outside of the run goes one after another. */
  #last: Promise<unknown> = Promise.resolve();
  #session: Promise<Session> | undefined;
  #opened: Session | undefined;

  /** @throws UserError listing every problem of the arguments */
  constructor(config: TrainerConfig) {
    const unknown = Object.keys(config).find((key) => !KEYS.includes(key));
    if (unknown !== undefined) {
      throw new UserError(`${unknown}: unknown key${didYouMean(unknown, [...KEYS])}; keys are ${KEYS.join(", ")}`);
    }
    this.#config = config;
    const { training_args: args } = config;
    this.args = placed(args instanceof TrainingArguments ? args : new TrainingArguments(args));
    this.#computeMetrics = metricsFunction(config);
    this.#log = config.log ?? tell;
    this.#health = healthConfig(config.health, this.args);
    this.#reporters = createReporters(this.args, this.#log);
    this.#requests = new Requests(this.#events, async (...change) => this.#folder?.keepChanges(...change));
    this.#callbacks = [...(config.callbacks ?? [])];
    if (config.early_stopping) this.#callbacks.push(new EarlyStoppingCallback(config.early_stopping));
    if (config.profile !== undefined) this.#callbacks.push(new ProfilerCallback(config.profile, this.#log));
    const computeMetrics = this.#computeMetrics;
    this.#notes = [
      ...this.args.notes,
      ...checkEvaluation(this.args, { ...config, computeMetrics, callbacks: this.#callbacks }),
    ];
    const shown = this.#callbacks.some((callback) => callback instanceof ProgressCallback);
    if (config.log === undefined && this.args.disable_tqdm !== true && !shown) {
      this.#progress = new ProgressCallback();
      this.#callbacks.push(this.#progress);
    }
  }

  /** The Trainer's state: updates, epochs, log entries, the best evaluation. */
  get state(): Readonly<TrainerState> {
    const { args } = this;
    const none = { max_steps: 0, num_train_epochs: 0, train_batch_size: args.per_device_train_batch_size };
    return this.#loop?.ledger.state ?? this.#opened?.state ?? newTrainerState(args, none);
  }

  /** Ends the run after the update at hand: saves a checkpoint, and `train()` resolves with `interrupted`. */
  requestStop(): void {
    this.#requests.stop();
  }

  /** Waits after the update at hand, until `resume()`; all other requests work in between. */
  pause(): void {
    this.#requests.pause();
  }

  /** Goes on after `pause()`. */
  resume(): void {
    this.#requests.resume();
  }

  /**
   * Saves a checkpoint after the update at hand; resolves to its path.
   * @throws UserError when the run ends before that
   */
  saveNow(): Promise<string> {
    return this.#requests.saveNow();
  }

  /**
   * Measures the model after the update at hand; resolves to the metrics.
   * @throws UserError without an eval_dataset, or when the run ends before that
   */
  evaluateNow(): Promise<Record<string, number>> {
    return this.#requests.evaluateNow();
  }

  /**
   * Changes settings after the update at hand: the run goes on as if it had been resumed with them.
   * @throws UserError for a value that cannot be, or when the run ends before that; nothing has changed then
   */
  async set(values: SettableValues): Promise<void> {
    await this.#requests.set(values, randomUUID());
  }

  /**
   * What happens from now on, until the run ends: `for await (const event of trainer.events())`. The run never waits
   * for a listener; one that is too slow loses the oldest events, and is told how many.
   */
  events(): AsyncIterableIterator<TrainingEvent> {
    this.#running?.catch(() => {}); // the listener gets a failure as an event
    return this.#events.listen();
  }

  /**
   * Trains, and writes the model and `trainer_state.json` into `output_dir`.
   * @param options.signal when it aborts, the run ends as after `requestStop()`
   * @throws UserError for bad input, a non-finite loss, or a disk that refuses; earlier results stay as they are
   * @throws the signal's reason (an AbortError) when it was told to stop before training began: nothing is left of it
   */
  train({ signal }: { signal?: AbortSignal } = {}): Promise<TrainOutput> {
    if (this.#running) throw new Error("train() was called before; make a new Trainer for another run");
    const stop = () => this.#requests.stop(signal?.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    this.#running = this.#last
      .then(() => this.#watched())
      .finally(() => {
        this.#over = true;
        signal?.removeEventListener("abort", stop);
      });
    if (this.#events.listeners > 0) this.#running.catch(() => {});
    return this.#running;
  }

  /**
   * Measures the model before or after training, on `eval_dataset` or on other data: `eval_loss`, `eval_perplexity`, ...
   * and your own metrics. As in Python it is logged, and callbacks hear of it; files of the run stay as they are.
   * @param dataset files, rows, or several datasets by name (`eval_NAME_loss`); default: `eval_dataset` or `eval_split`
   * @param options.metric_key_prefix instead of `eval`
   * @throws UserError without data, and while the run goes on (`evaluateNow()` measures it then)
   */
  evaluate(
    dataset?: EvalDatasetInput,
    { metric_key_prefix = "eval" }: { metric_key_prefix?: string } = {},
  ): Promise<Record<string, number>> {
    return this.#outside("evaluate()", "evaluateNow()", (session) => session.evaluate(dataset, metric_key_prefix));
  }

  /**
   * What the model makes of each token of a dataset, and `test_loss` and so on. A position's prediction is the likeliest
   * token there, given the dataset's own tokens before it: for free answers use `generator()`.
   * @throws UserError for data that cannot be used, and while the run goes on
   */
  predict(
    dataset: EvalDatasetInput,
    { metric_key_prefix = "test" }: { metric_key_prefix?: string } = {},
  ): Promise<Prediction> {
    return this.#outside("predict()", "evaluateNow()", (session) => session.predict(dataset, metric_key_prefix));
  }

  /** The model as it is, to answer prompts; it is not loaded again, and lives as long as the Trainer's. */
  generator(): Promise<TextGenerator> {
    return this.#outside("generator()", "computeMetrics", (session) => session.generator());
  }

  /**
   * Writes the model as it is: an adapter, or without `lora` all weights, with its tokenizer, as `train()` itself does.
   * @param folder default: `output_dir`
   */
  saveModel(folder = this.args.output_dir): Promise<void> {
    return this.#outside("saveModel()", "saveNow()", (session) => session.save(folder));
  }

  /** Frees the model. A run that goes on has it until its end. */
  dispose(): void {
    const release = () => this.#kept.release();
    if (this.#running && !this.#over) this.#running.then(release, release);
    else release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async #outside<T>(call: string, instead: string, work: (session: Session) => Promise<T>): Promise<T> {
    if (this.#running && !this.#over) {
      throw new UserError(`${call}: the run is going on. Await train() first; ${instead} works within it.`);
    }
    const done = this.#last.then(async () => work(await this.#open()));
    this.#last = done.catch(() => {});
    return done;
  }

  /** The model and its data, loaded once. */
  async #open(): Promise<Session> {
    if (this.#kept.released)
      throw new UserError("The Trainer was disposed of, and its model is freed. Make another one.");
    if (!this.#session && this.#over)
      throw new UserError("The run failed, and its model is freed. Make a new Trainer.");
    this.#session ??= this.#load();
    return this.#session;
  }

  async #load(): Promise<Session> {
    const { args } = this;
    try {
      const options = { health: this.#health, log: this.#log, signal: this.#requests.stopSignal };
      const run = await prepareRun(this.#config, args, options);
      this.#kept.keep(run.model);
      const session = { args, computeMetrics: this.#computeMetrics, callbacks: this.#callbacks };
      this.#opened = await Session.open(run, session);
      return this.#opened;
    } catch (error) {
      this.#session = undefined;
      if ((error as Error).name === "AbortError") this.#requests.stopSignal.throwIfAborted(); // with the reason given
      throw error;
    }
  }

  /** The run, with a last word to everyone who listens or waits. */
  async #watched(): Promise<TrainOutput> {
    let outcome: Outcome = "failed";
    const { args } = this;
    const options = {
      config: this.#config,
      args,
      requests: this.#requests,
      reporters: this.#reporters,
      log: this.#log,
    };
    for (const note of this.#notes) this.#log(note);
    try {
      const output = await RunFolder.during(options, (folder) => this.#inFolder(folder));
      outcome = output.interrupted ? "interrupted" : "finished";
      this.#events.end({ type: "end", output });
      return output;
    } catch (error) {
      this.#kept.release();
      this.#events.end({ type: "error", error });
      throw error;
    } finally {
      this.#progress?.close();
      for (const reporter of this.#reporters) await reporter.close(outcome);
    }
  }

  async #inFolder(folder: RunFolder): Promise<TrainOutput> {
    const { args } = this;
    this.#folder = folder;
    const wanted = args.resume_from_checkpoint;
    await tidy(args.output_dir);
    const checkpoint = wanted
      ? await findCheckpoint(args.output_dir, wanted as true | string, this.#log, folder.damaged)
      : undefined;
    const session = await this.#open();
    this.#requests.stopSignal.throwIfAborted();
    const { run } = session;
    let optimizer: Optimizer | undefined;
    try {
      const settings = new Settings(args, run.sequences.length, folder.record.record.changes);
      optimizer = createOptimizer(run.parameters, args, run.device);
      for (const line of this.#describe(session, settings, checkpoint, optimizer)) this.#log(line);
      const loop = this.#makeLoop(session, settings, optimizer, folder);
      session.resumeRandom();
      await loop.initEnd();
      const resumed = checkpoint && (await this.#continueFrom(loop, checkpoint, folder.damaged));
      folder.begun = true;
      if (!resumed) await rm(join(args.output_dir, HEALTH_LOG), { force: true }); // of an earlier run that saved nothing
      await folder.record.planned(settings.plan, resumed?.step ?? 0);
      this.#loop = loop;
      const output = await loop.run();
      const paging = describePaging(await optimizer.stats());
      if (paging) this.#log(paging);
      const ending = {
        output,
        state: loop.ledger.state,
        outputDir: args.output_dir,
        result: run.lora ? "a PEFT adapter" : "a model",
        from: resumed?.step ?? 0,
        patience: this.#callbacks.find((callback) => callback instanceof EarlyStoppingCallback)?.stoppedAfter,
      };
      for (const line of describeEnd(ending)) this.#log(line);
      await session.takeOver(loop.ledger);
      return output;
    } finally {
      this.#loop = undefined;
      optimizer?.dispose();
    }
  }

  #makeLoop({ run, evaluator }: Session, settings: Settings, optimizer: Optimizer, folder: RunFolder): Loop {
    const callbacks = [
      new DefaultFlowCallback(),
      ...this.#callbacks,
      ...this.#reporters,
      new StatusCallback(folder.status),
      new EventsCallback(this.#events),
    ];
    return new Loop(run, settings, optimizer, {
      callbacks: new CallbackHandler(callbacks),
      evaluator,
      log: this.#log,
      requests: this.#requests,
      control: folder.control,
      status: folder.status,
      damaged: folder.damaged,
      health: new HealthWatch(this.#health, this.args.output_dir, this.#log, (incident) =>
        this.#events.push({ type: "health", step: incident.step, incident }),
      ),
    });
  }

  /** What the run is going to do, with the settings that the checkpoint's run had been given while it went. */
  #describe({ run }: Session, settings: Settings, checkpoint: CheckpointFolder | undefined, optimizer: Optimizer) {
    const then = settings.copy();
    if (checkpoint) then.repeatChanges(checkpoint.step, () => {});
    return describeRun(run, then.args, then.plan, optimizer);
  }

  /** Goes on from the checkpoint; where the newest one was asked for and cannot be used after all, from the one before. */
  async #continueFrom(loop: Loop, checkpoint: CheckpointFolder, damaged: Set<string>): Promise<CheckpointFolder> {
    const { resume_from_checkpoint: wanted, output_dir } = this.args;
    try {
      await loop.continueFrom(checkpoint);
      return checkpoint;
    } catch (error) {
      if (!(error instanceof DamagedCheckpoint) || wanted !== true) throw error;
      this.#log(`Checkpoint ${checkpoint.path} is damaged: ${error.message}. It is left alone.`);
      damaged.add(checkpoint.path);
      return this.#continueFrom(loop, await findCheckpoint(output_dir, true, this.#log, damaged), damaged);
    }
  }
}
