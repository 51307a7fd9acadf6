/** The public face of a run: checks, prepares, trains, cleans up. */

import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { CallbackHandler, DefaultFlowCallback, type TrainerCallback } from "../callbacks/callbacks.js";
import { EarlyStoppingCallback, type EarlyStoppingOptions } from "../callbacks/earlyStopping.js";
import { EventHub, EventsCallback, type TrainingEvent } from "../callbacks/events.js";
import { ProfilerCallback } from "../callbacks/profile/profiler.js";
import { createReporters, type Outcome, type Reporter } from "../callbacks/reporters/index.js";
import { StatusCallback } from "../callbacks/status.js";
import { checkEvaluation } from "../evaluate/evaluationChecks.js";
import { type ComputeMetrics, Evaluator } from "../evaluate/evaluator.js";
import { explainMemory, trainingAdvice } from "../memory/outOfMemory.js";
import type { Optimizer } from "../optim/optimizer.js";
import { DamagedCheckpoint } from "../runFolder/checkpointState.js";
import { type CheckpointFolder, findCheckpoint, tidy } from "../runFolder/checkpoints.js";
import type { SettableValues } from "../runFolder/control.js";
import { HEALTH_LOG, RUN } from "../runFolder/files.js";
import { AUTO, numberedDir, openOutputDir } from "../runFolder/outputDir.js";
import { RecordWriter } from "../runFolder/record.js";
import type { TrainOutput } from "../runFolder/state.js";
import { type Phase, StatusWriter } from "../runFolder/status.js";
import { tell } from "../support/plainText.js";
import { ControlFile } from "./controlFile.js";
import { describeEnd } from "./ending.js";
import { type HealthConfig, healthConfig } from "./health/config.js";
import { HealthWatch } from "./health/watch.js";
import { Loop } from "./loop.js";
import { createOptimizer } from "./optimizers.js";
import { type PreparedRun, prepareRun, type RunSpec } from "./prepare.js";
import { Requests, type SettingChange } from "./requests.js";
import { recordedConfig, runStart } from "./runStart.js";
import { Settings } from "./settings.js";
import { describePaging, describeRun } from "./summary.js";
import { UpdateFailure } from "./update.js";

export interface TrainerConfig extends RunSpec {
  /** End the run when evaluations stop getting better. */
  early_stopping?: EarlyStoppingOptions;
  /** Metrics of your own, at each evaluation. */
  computeMetrics?: ComputeMetrics;
  training_args?: TrainingArguments | TrainingArgumentsInput;
  /** Move an earlier run in output_dir aside (to output_dir.1, .2, ...) and begin a new one. */
  overwrite_output_dir?: boolean;
  callbacks?: TrainerCallback[];
  /** Write a Chrome trace of the first updates into this file, and say where their time went. */
  profile?: string;
  /** Gets the lines that a person should see; default: stderr. */
  log?: (line: string) => void;
}

/** What a run has open while it goes, beside the model. */
interface Folder {
  record: RecordWriter;
  status: StatusWriter;
  control: ControlFile;
  /** Checkpoints that were found damaged. */
  damaged: Set<string>;
}

/** The arguments with the folder that `output_dir: auto` stands for. */
function placed(args: TrainingArguments): TrainingArguments {
  if (args.output_dir !== AUTO) return args;
  return args.with({ output_dir: numberedDir(args.resume_from_checkpoint ? "newest" : "new") });
}

/** Fine-tunes a model: `await new Trainer({ model, dataset, lora, training_args }).train()`. */
export class Trainer {
  readonly args: TrainingArguments;
  readonly #config: TrainerConfig;
  readonly #log: (line: string) => void;
  readonly #callbacks: TrainerCallback[];
  readonly #notes: string[];
  readonly #health: HealthConfig;
  readonly #reporters: Reporter[];
  readonly #events = new EventHub();
  readonly #requests: Requests;
  #record: RecordWriter | undefined;
  #running: Promise<TrainOutput> | undefined;

  /** @throws UserError listing every problem of the arguments */
  constructor(config: TrainerConfig) {
    this.#config = config;
    const { training_args: args } = config;
    this.args = placed(args instanceof TrainingArguments ? args : new TrainingArguments(args));
    this.#log = config.log ?? tell;
    this.#health = healthConfig(config.health, this.args);
    this.#reporters = createReporters(this.args, this.#log);
    this.#requests = new Requests(this.#events, (...change) => this.#keepChanges(...change));
    this.#callbacks = [...(config.callbacks ?? [])];
    if (config.early_stopping) this.#callbacks.push(new EarlyStoppingCallback(config.early_stopping));
    if (config.profile !== undefined) this.#callbacks.push(new ProfilerCallback(config.profile, this.#log));
    this.#notes = [...this.args.notes, ...checkEvaluation(this.args, { ...config, callbacks: this.#callbacks })];
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
   */
  train({ signal }: { signal?: AbortSignal } = {}): Promise<TrainOutput> {
    if (this.#running) throw new Error("train() was called before; make a new Trainer for another run");
    const stop = () => this.#requests.stop();
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    this.#running = this.#watched().finally(() => signal?.removeEventListener("abort", stop));
    if (this.#events.listeners > 0) this.#running.catch(() => {});
    return this.#running;
  }

  /** The run, with a last word to everyone who listens or waits. */
  async #watched(): Promise<TrainOutput> {
    let outcome: Outcome = "failed";
    try {
      const output = await this.#inFolder();
      outcome = output.interrupted ? "interrupted" : "finished";
      this.#events.end({ type: "end", output });
      return output;
    } catch (error) {
      this.#events.end({ type: "error", error });
      throw error;
    } finally {
      for (const reporter of this.#reporters) await reporter.close(outcome);
    }
  }

  /** Holds the folder of the run while it goes, and keeps its record and its status. */
  async #inFolder(): Promise<TrainOutput> {
    const { args } = this;
    const folder = args.output_dir;
    const resuming = Boolean(args.resume_from_checkpoint);
    for (const note of this.#notes) this.#log(note);
    const overwrite = this.#config.overwrite_output_dir === true;
    if (overwrite && resuming) this.#log("overwrite_output_dir is not used: the run is resumed.");
    const earlier = resuming ? "resume" : overwrite ? "move aside" : "refuse";
    const place = await openOutputDir(folder, earlier).catch((error) => {
      this.#requests.end(error);
      throw error;
    });
    if (place.aside !== undefined) this.#log(`The earlier run in ${folder} was moved to ${place.aside}`);
    let record: RecordWriter | undefined;
    let status: StatusWriter | undefined;
    let control: ControlFile | undefined;
    let begun = false;
    /** A start that never began leaves the folder as it found it. */
    const end = async (phase: Phase, error: unknown = undefined) => {
      this.#requests.end(error);
      await control?.close();
      if (begun) return status?.end({ phase, error: error === undefined ? null : (error as Error).message });
      await status?.takeBack();
      await record?.takeBack();
    };
    try {
      record = await RecordWriter.start(folder, recordedConfig(this.#config, args), runStart(), resuming);
      this.#record = record;
      status = await StatusWriter.open(folder, record.record.id, this.#log);
      control = await this.#openControl(folder, status);
      const output = await this.#prepareAndRun({ record, status, control, damaged: new Set() }, () => {
        begun = true;
      });
      await end(output.interrupted ? "interrupted" : "finished");
      return output;
    } catch (cause) {
      const memory = cause instanceof UpdateFailure && cause.kind === "memory" ? cause.cause : cause;
      const error = explainMemory(memory, trainingAdvice(args));
      await end("failed", error).catch(() => {}); // of the two errors, this is the one to tell
      throw error;
    } finally {
      if (begun) place.lock.release();
      else await place.giveBack();
    }
  }

  #openControl(folder: string, status: StatusWriter): Promise<ControlFile> {
    return ControlFile.open(
      folder,
      this.#requests,
      () => status.step,
      (answer) => {
        status.answer(answer);
        for (const reporter of this.#reporters) void reporter.onControl?.(answer);
      },
    );
  }

  /** @param onBegin called when everything is loaded and fits */
  async #prepareAndRun(folder: Folder, onBegin: () => void): Promise<TrainOutput> {
    const { args } = this;
    const wanted = args.resume_from_checkpoint;
    await tidy(args.output_dir);
    const checkpoint = wanted
      ? await findCheckpoint(args.output_dir, wanted as true | string, this.#log, folder.damaged)
      : undefined;
    let run: PreparedRun;
    try {
      run = await prepareRun(this.#config, args, {
        health: this.#health,
        log: this.#log,
        signal: this.#requests.stopSignal,
      });
    } catch (error) {
      if (!this.#requests.stopRequested || (error as Error).name !== "AbortError") throw error;
      return {
        global_step: checkpoint?.step ?? 0,
        training_loss: Number.NaN,
        metrics: {},
        interrupted: true,
        checkpoint: checkpoint?.path,
      };
    }
    return this.#runPrepared(run, checkpoint, folder, onBegin);
  }

  async #runPrepared(
    run: PreparedRun,
    checkpoint: CheckpointFolder | undefined,
    { record, status, control, damaged }: Folder,
    onBegin: () => void,
  ): Promise<TrainOutput> {
    const { args } = this;
    const { computeMetrics } = this.#config;
    let optimizer: Optimizer | undefined;
    try {
      const settings = new Settings(args, run.sequences.length, record.record.changes);
      optimizer = createOptimizer(run.parameters, args, run.device);
      for (const line of this.#describe(run, settings, checkpoint, optimizer)) this.#log(line);
      const loop = new Loop(run, settings, optimizer, {
        callbacks: new CallbackHandler([
          new DefaultFlowCallback(),
          ...this.#callbacks,
          ...this.#reporters,
          new StatusCallback(status),
          new EventsCallback(this.#events),
        ]),
        evaluator: run.evaluation && new Evaluator({ ...run, ...run.evaluation, args, computeMetrics }),
        log: this.#log,
        requests: this.#requests,
        control,
        status,
        damaged,
        health: new HealthWatch(this.#health, args.output_dir, this.#log, (incident) =>
          this.#events.push({ type: "health", step: incident.step, incident }),
        ),
      });
      await loop.initEnd();
      const resumed = checkpoint && (await this.#continueFrom(loop, checkpoint, damaged));
      onBegin();
      if (!resumed) await rm(join(args.output_dir, HEALTH_LOG), { force: true }); // of an earlier run that saved nothing
      await record.planned(settings.plan, resumed?.step ?? 0);
      const output = await loop.run();
      const paging = describePaging(await optimizer.stats());
      if (paging) this.#log(paging);
      const ending = {
        output,
        state: loop.state,
        outputDir: args.output_dir,
        result: run.lora ? "a PEFT adapter" : "a model",
        from: resumed?.step ?? 0,
        patience: this.#callbacks.find((callback) => callback instanceof EarlyStoppingCallback)?.stoppedAfter,
      };
      for (const line of describeEnd(ending)) this.#log(line);
      return output;
    } finally {
      optimizer?.dispose();
      run.model.dispose();
    }
  }

  /** What the run is going to do, with the settings that the checkpoint's run had been given while it went. */
  #describe(run: PreparedRun, settings: Settings, checkpoint: CheckpointFolder | undefined, optimizer: Optimizer) {
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

  /** Changed settings are in run.json before an update is made with them, so that a resume makes them again. */
  async #keepChanges(changes: readonly SettingChange[], step: number, id: string): Promise<void> {
    const time = new Date().toISOString();
    for (const { name, from, to } of changes) this.#log(`After update ${step}: ${name} ${to} (was ${from})`);
    await this.#record?.changed(changes.map((change) => ({ id, time, step, ...change }))).catch((error: Error) => {
      this.#log(`${RUN} cannot be written: ${error.message}. A resume will not know of the change.`);
    });
  }
}
