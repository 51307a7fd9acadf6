/** What steers a run at the moment: its arguments, and the plan and the schedule that follow from them. */
import type { TrainingArguments } from "../arguments/index.js";
import { createScheduler, type Scheduler } from "../optim/schedulers.js";
import type { Settable, SettableValues } from "../runFolder/control.js";
import type { Change } from "../runFolder/record.js";
import { newTrainerState, type TrainerState } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { type Plan, planRun } from "./plan.js";

/** The fields of the Trainer's state that follow from the settings alone. */
type Steering = Pick<TrainerState, "max_steps" | "num_train_epochs" | "logging_steps" | "eval_steps" | "save_steps">;

export class Settings {
  readonly #examples: number;
  #args: TrainingArguments;
  #plan: Plan;
  #scheduler: Scheduler;

  /** Changes of an earlier start that are still to be made again. */
  #repeated: readonly Change[];

  /**
   * @param examples how many there are to train on
   * @param changes that were made in an earlier start, each to be made again at its update
   */
  constructor(args: TrainingArguments, examples: number, changes: readonly Change[] = []) {
    this.#repeated = changes;
    this.#examples = examples;
    this.#args = args;
    this.#plan = planRun(examples, args);
    this.#scheduler = createScheduler(args, this.#plan);
  }

  get args(): TrainingArguments {
    return this.#args;
  }

  get plan(): Plan {
    return this.#plan;
  }

  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  copy(): Settings {
    return new Settings(this.#args, this.#examples, this.#repeated);
  }

  newState(): TrainerState {
    return newTrainerState(this.#args, {
      max_steps: this.#plan.maxSteps,
      num_train_epochs: this.#plan.epochs,
      train_batch_size: this.#args.per_device_train_batch_size,
    });
  }

  steering(): Steering {
    const { max_steps, num_train_epochs, logging_steps, eval_steps, save_steps } = this.newState();
    return { max_steps, num_train_epochs, logging_steps, eval_steps, save_steps };
  }

  /**
   * Takes changed arguments over, all or none: from here on the run goes as if it had been resumed with them.
   * @param step finished updates
   * @returns each setting's old value
   * @throws UserError for a value that the argument does not take, or an end that lies behind
   */
  change(values: SettableValues, step: number): { name: Settable; from: number | null; to: number }[] {
    const args = this.#args.with(values);
    const plan = planRun(this.#examples, args);
    if (plan.maxSteps <= step) {
      throw new UserError(
        `max_steps: ${values.max_steps} updates would be over already (${step} are finished). Use a larger number, or stop the run.`,
      );
    }
    const scheduler = createScheduler(args, plan);
    const followed = this.#scheduler.metric?.state();
    if (followed) scheduler.metric?.restore(followed);
    const before = this.#args;
    this.#repeated = this.#repeated.filter(({ name }) => !Object.hasOwn(values, name));
    [this.#args, this.#plan, this.#scheduler] = [args, plan, scheduler];
    return (Object.keys(values) as Settable[]).map((name) => ({ name, from: before[name], to: args[name]! }));
  }

  /**
   * What was set after these updates in an earlier start is set again, so that the run is the same.
   * @returns whether there was anything
   */
  repeatChanges(step: number, log: (line: string) => void): boolean {
    const due = this.#repeated.filter((change) => change.step <= step);
    const later = this.#repeated.filter((change) => change.step > step);
    for (const { name, to, step: at } of due) {
      this.change({ [name]: to }, step);
      log(`${name} is ${to} again, as it was set after update ${at}`);
    }
    this.#repeated = later;
    return due.length > 0;
  }
}
