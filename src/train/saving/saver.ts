/** The checkpoints of a run, and its result: when they are current, what they hold, the way back to them. */
import { join } from "node:path";
import { bestCheckpoint, findBestCheckpoint } from "../../evaluate/bestModel.js";
import type { Optimizer } from "../../optim/optimizer.js";
import { adviceToGoOn, keepOnly, rotate, writeCheckpoint } from "../../runFolder/checkpoints.js";
import { TRAINER_STATE } from "../../runFolder/files.js";
import { damage } from "../../runFolder/manifest.js";
import { stateJson, type TrainerState } from "../../runFolder/state.js";
import { replaceFile, writeSynced } from "../../support/durable.js";
import { UserError } from "../../support/errors.js";
import type { Ledger } from "../ledger.js";
import type { PreparedRun } from "../prepare.js";
import type { Settings } from "../settings.js";
import { writeModelFiles, writeResult } from "./artifacts.js";
import { chooseBest } from "./chooseBest.js";
import { restore, restoreWeights, writeResumable } from "./resumable.js";

export class Saver {
  readonly #run: PreparedRun;
  readonly #settings: Settings;
  readonly #optimizer: Optimizer;
  readonly #ledger: Ledger;
  readonly #damaged: ReadonlySet<string>;
  #path: string | undefined;
  /** The update whose checkpoint is on disk, with all that is known of it. */
  #current = -1;

  /** @param damaged checkpoints that were found damaged, and are left alone */
  constructor(
    run: PreparedRun,
    settings: Settings,
    optimizer: Optimizer,
    ledger: Ledger,
    damaged: ReadonlySet<string>,
  ) {
    this.#run = run;
    this.#settings = settings;
    this.#optimizer = optimizer;
    this.#ledger = ledger;
    this.#damaged = damaged;
  }

  /** The newest checkpoint that this run saved or went on from. */
  get path(): string | undefined {
    return this.#path;
  }

  /** The run goes on from this checkpoint. */
  async continueFrom(path: string): Promise<void> {
    const { state } = this.#ledger;
    this.#path = path;
    this.#current = state.global_step;
    this.#ledger.setBestCheckpoint(await findBestCheckpoint(state, this.#settings.args.output_dir));
  }

  /** A checkpoint of this update, if there is one, does not know of what has happened since. */
  outdate(): void {
    this.#current = -1;
  }

  /**
   * Saves a checkpoint of this moment, unless there is one.
   * @param asked it is there only because someone asked for it
   */
  async save(asked: boolean): Promise<string> {
    const ledger = this.#ledger;
    if (this.#current === ledger.step) return this.#path!;
    const { args } = this.#settings;
    ledger.noteSave(asked);
    const best = await bestCheckpoint(ledger.state, args.output_dir, ledger.step, ledger.tally.askedSaves);
    if (best !== undefined) ledger.setBestCheckpoint(best);
    const { state, tally } = ledger.saved();
    const { identity, device } = this.#run;
    const path = await writeCheckpoint(args.output_dir, ledger.step, async (folder) => {
      await writeModelFiles(folder, this.#run);
      if (args.save_only_model) return writeSynced(join(folder, TRAINER_STATE), stateJson(state));
      const saved = { args: { ...args.toJSON() }, state, tally, identity, device };
      await writeResumable(folder, saved, this.#optimizer.stateEntries());
    });
    await this.#keepState(state);
    [this.#current, this.#path] = [ledger.step, path];
    // An evaluation that is still due may make another checkpoint the best: until then all stay.
    if (!tally.pending) {
      await rotate(args.output_dir, ledger.step, args.save_total_limit, state.best_model_checkpoint, this.#damaged);
    }
    await ledger.tell("onSave", { checkpoint: path });
    return path;
  }

  /** trainer_state.json at the top, for those who look at the run from outside. */
  async #keepState(state: TrainerState): Promise<void> {
    const path = join(this.#settings.args.output_dir, TRAINER_STATE);
    try {
      await replaceFile(path, stateJson(state));
    } catch (error) {
      throw new UserError(
        `output_dir: ${path} cannot be written: ${(error as Error).message}. Make room. ${await adviceToGoOn(this.#settings.args.output_dir)}`,
        { cause: error },
      );
    }
  }

  /** Weights, states and generators as they were at the newest checkpoint. @throws UserError when it is damaged */
  async rollBack(): Promise<void> {
    const path = this.#path!;
    const reason = await damage(path);
    if (reason) throw new UserError(`health.non_finite: rollback: ${path} is damaged: ${reason}.`);
    await this.restore(path);
  }

  /** @throws DamagedCheckpoint */
  restore(path: string): Promise<void> {
    const { parameters, device } = this.#run;
    return restore(path, this.#stem, parameters, this.#optimizer, device);
  }

  /** The end of a run: the best weights where that is asked for, the result, and the checkpoints that stay. */
  async finish(log: (line: string) => void): Promise<void> {
    const { args } = this.#settings;
    const { state } = this.#ledger.saved(); // with its callbacks, whose states are not those of the last checkpoint
    const best = state.best_model_checkpoint;
    if (args.load_best_model_at_end) {
      const found = await chooseBest(state, args, log);
      if (found !== undefined) await restoreWeights(found, this.#stem, this.#run.parameters);
    }
    await writeResult(args.output_dir, this.#run, state);
    if (best !== null && args.save_total_limit === 1) await keepOnly(args.output_dir, best, this.#damaged);
  }

  get #stem() {
    return this.#run.lora ? ("adapter_model" as const) : ("model" as const);
  }
}
