/** The public face of a run: checks, prepares, trains, cleans up. */
import type { DatasetSpec } from "../data/config.js";
import { UserError } from "../errors.js";
import type { Optimizer } from "../optim/optimizer.js";
import { TrainingArguments, type TrainingArgumentsInput } from "./arguments/index.js";
import { CallbackHandler, DefaultFlowCallback, type TrainerCallback } from "./callbacks.js";
import { findCheckpoint, removeUnfinished } from "./checkpoint/folders.js";
import { restore } from "./checkpoint/resumable.js";
import { Loop, type TrainOutput } from "./loop.js";
import { createOptimizer } from "./optimizers.js";
import { openOutputDir } from "./outputDir.js";
import { planRun } from "./plan.js";
import { prepareRun, type RunSpec } from "./prepare.js";
import { resumeState } from "./resume.js";
import { describePaging, describeRun } from "./summary.js";

export interface TrainerConfig extends RunSpec {
  eval_dataset?: DatasetSpec;
  training_args?: TrainingArguments | TrainingArgumentsInput;
  callbacks?: TrainerCallback[];
  /** Gets the lines that a person should see; default: stderr. */
  log?: (line: string) => void;
}

/** Fine-tunes a model: `await new Trainer({ model, dataset, lora, training_args }).train()`. */
export class Trainer {
  readonly args: TrainingArguments;
  readonly #config: TrainerConfig;
  readonly #log: (line: string) => void;
  #stopRequested = false;

  /** @throws UserError listing every problem of the arguments */
  constructor(config: TrainerConfig) {
    this.#config = config;
    const { training_args: args } = config;
    this.args = args instanceof TrainingArguments ? args : new TrainingArguments(args);
    this.#log = config.log ?? ((line) => process.stderr.write(`${line}\n`));
    if (config.eval_dataset !== undefined) {
      throw new UserError("eval_dataset: evaluation during training is not built in this version; remove it.");
    }
  }

  /** Ends the run after the update at hand: saves a checkpoint, and `train()` resolves with `interrupted`. */
  requestStop(): void {
    this.#stopRequested = true;
  }

  /**
   * Trains, and writes the model and `trainer_state.json` into `output_dir`.
   * @throws UserError for bad input, a non-finite loss, or a disk that refuses; earlier results stay as they are
   */
  async train(): Promise<TrainOutput> {
    const { args } = this;
    for (const note of args.notes) this.#log(note);
    const wanted = args.resume_from_checkpoint;
    await openOutputDir(args.output_dir, Boolean(wanted));
    const checkpoint = wanted ? await findCheckpoint(args.output_dir, wanted as true | string, this.#log) : undefined;
    await removeUnfinished(args.output_dir);
    const run = await prepareRun(this.#config, args, this.#log);
    let optimizer: Optimizer | undefined;
    try {
      const plan = planRun(run.examples.length, args);
      optimizer = createOptimizer(run.parameters, args);
      for (const line of describeRun(run, args, plan, optimizer)) this.#log(line);
      const loop = new Loop(run, plan, args, optimizer, {
        callbacks: new CallbackHandler([new DefaultFlowCallback(), ...(this.#config.callbacks ?? [])]),
        stopRequested: () => this.#stopRequested,
      });
      if (checkpoint) {
        const resumed = await resumeState(checkpoint.path, run, args, plan, this.#log);
        await restore(checkpoint.path, run.lora ? "adapter_model" : "model", run.parameters, optimizer);
        loop.continueFrom(resumed);
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
