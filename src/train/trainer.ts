/** The public face of a run: checks, prepares, trains, cleans up. */
import { rmdir } from "node:fs/promises";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { CallbackHandler, DefaultFlowCallback, type TrainerCallback } from "../callbacks/callbacks.js";
import { EarlyStoppingCallback, type EarlyStoppingOptions } from "../callbacks/earlyStopping.js";
import { EventHub, EventsCallback, type TrainingEvent } from "../callbacks/events.js";
import { ProfilerCallback } from "../callbacks/profile/profiler.js";
import { createReporters, type Outcome, type Reporter } from "../callbacks/reporters/index.js";
import { checkEvaluation } from "../evaluate/evaluationChecks.js";
import { type ComputeMetrics, Evaluator } from "../evaluate/evaluator.js";
import { explainMemory, trainingAdvice } from "../memory/outOfMemory.js";
import type { Optimizer } from "../optim/optimizer.js";
import { type CheckpointFolder, findCheckpoint, removeUnfinished } from "../runFolder/checkpoints.js";
import { openOutputDir } from "../runFolder/outputDir.js";
import { type HealthConfig, healthConfig } from "./health/config.js";
import { HealthWatch } from "./health/watch.js";
import type { TrainOutput } from "./ledger.js";
import { Loop } from "./loop.js";
import { createOptimizer } from "./optimizers.js";
import { planRun } from "./plan.js";
import { type PreparedRun, prepareRun, type RunSpec } from "./prepare.js";
import { Requests } from "./requests.js";
import { restore } from "./saving/resumable.js";
import { resumeState } from "./saving/resume.js";
import { describePaging, describeRun } from "./summary.js";

export interface TrainerConfig extends RunSpec {
  /** End the run when evaluations stop getting better. */
  early_stopping?: EarlyStoppingOptions;
  /** Metrics of your own, at each evaluation. */
  computeMetrics?: ComputeMetrics;
  training_args?: TrainingArguments | TrainingArgumentsInput;
  callbacks?: TrainerCallback[];
  /** Write a Chrome trace of the first updates into this file, and say where their time went. */
  profile?: string;
  /** Gets the lines that a person should see; default: stderr. */
  log?: (line: string) => void;
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
  readonly #requests = new Requests(this.#events);
  #running: Promise<TrainOutput> | undefined;

  /** @throws UserError listing every problem of the arguments */
  constructor(config: TrainerConfig) {
    this.#config = config;
    const { training_args: args } = config;
    this.args = args instanceof TrainingArguments ? args : new TrainingArguments(args);
    this.#log = config.log ?? ((line) => process.stderr.write(`${line}\n`));
    this.#health = healthConfig(config.health, this.args);
    this.#reporters = createReporters(this.args, this.#log);
    this.#callbacks = [...(config.callbacks ?? [])];
    if (config.early_stopping) this.#callbacks.push(new EarlyStoppingCallback(config.early_stopping));
    if (config.profile !== undefined) this.#callbacks.push(new ProfilerCallback(config.profile, this.#log));
    this.#notes = [...this.args.notes, ...checkEvaluation(this.args, { ...config, callbacks: this.#callbacks })];
  }

  /** Ends the run after the update at hand: saves a checkpoint, and `train()` resolves with `interrupted`. */
  requestStop(): void {
    this.#requests.stop();
  }

  /** Waits after the update at hand, until `resume()`; `requestStop()` and `saveNow()` work in between. */
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
      const output = await this.#prepareAndRun();
      outcome = output.interrupted ? "interrupted" : "finished";
      this.#requests.end();
      this.#events.end({ type: "end", output });
      return output;
    } catch (cause) {
      const error = explainMemory(cause, trainingAdvice(this.args));
      this.#requests.end(error);
      this.#events.end({ type: "error", error });
      throw error;
    } finally {
      for (const reporter of this.#reporters) await reporter.close(outcome);
    }
  }

  async #prepareAndRun(): Promise<TrainOutput> {
    const { args } = this;
    for (const note of this.#notes) this.#log(note);
    const wanted = args.resume_from_checkpoint;
    const made = await openOutputDir(args.output_dir, Boolean(wanted));
    let checkpoint: CheckpointFolder | undefined;
    let run: PreparedRun;
    try {
      if (wanted) checkpoint = await findCheckpoint(args.output_dir, wanted as true | string, this.#log);
      await removeUnfinished(args.output_dir);
      run = await prepareRun(this.#config, args, this.#log, this.#requests.stopSignal);
    } catch (error) {
      if (made) await rmdir(args.output_dir).catch(() => {}); // as if it had never been
      if (!this.#requests.stopRequested || (error as Error).name !== "AbortError") throw error;
      return {
        global_step: checkpoint?.step ?? 0,
        training_loss: Number.NaN,
        metrics: {},
        interrupted: true,
        checkpoint: checkpoint?.path,
      };
    }
    return this.#runPrepared(run, checkpoint);
  }

  async #runPrepared(run: PreparedRun, checkpoint: CheckpointFolder | undefined): Promise<TrainOutput> {
    const { args } = this;
    const { computeMetrics } = this.#config;
    let optimizer: Optimizer | undefined;
    try {
      const plan = planRun(run.examples.length, args);
      optimizer = createOptimizer(run.parameters, args, run.device);
      for (const line of describeRun(run, args, plan, optimizer)) this.#log(line);
      const loop = new Loop(run, plan, args, optimizer, {
        callbacks: new CallbackHandler([
          new DefaultFlowCallback(),
          ...this.#callbacks,
          ...this.#reporters,
          new EventsCallback(this.#events),
        ]),
        evaluator: run.evaluation && new Evaluator({ ...run, ...run.evaluation, args, computeMetrics }),
        log: this.#log,
        stopRequested: () => this.#requests.stopRequested,
        requests: this.#requests,
        health: new HealthWatch(this.#health, args.output_dir, this.#log, (incident) =>
          this.#events.push({ type: "health", step: incident.step, incident }),
        ),
      });
      await loop.initEnd();
      if (checkpoint) {
        const resumed = await resumeState(checkpoint.path, run, args, plan, this.#log);
        await restore(checkpoint.path, run.lora ? "adapter_model" : "model", run.parameters, optimizer, run.device);
        loop.continueFrom(resumed, checkpoint.path);
      }
      const output = await loop.run();
      const paging = describePaging(await optimizer.stats());
      if (paging) this.#log(paging);
      return output;
    } finally {
      optimizer?.dispose();
      run.model.dispose();
    }
  }
}
