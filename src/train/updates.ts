/** The updates of a run, one after the other: what each is made from, what it tells, and what becomes of one that fails. */
import type { Sequence } from "../models/batch.js";
import type { Optimizer } from "../optim/optimizer.js";
import { elementCount } from "../support/shape.js";
import type { StepResult } from "./accumulate.js";
import { AdapterCheck } from "./health/adapterGradients.js";
import type { HealthWatch } from "./health/watch.js";
import type { Ledger } from "./ledger.js";
import type { LossScaler } from "./lossScaler.js";
import type { PreparedRun } from "./prepare.js";
import type { Saver } from "./saving/saver.js";
import type { Settings } from "./settings.js";
import { BrokenWeights, makeUpdate, UpdateFailure } from "./update.js";

export interface UpdatesOptions {
  run: PreparedRun;
  settings: Settings;
  optimizer: Optimizer;
  ledger: Ledger;
  saver: Saver;
  health: HealthWatch;
  /** Of fp16. */
  scaler: LossScaler | undefined;
}

export class Updates {
  readonly #run: PreparedRun;
  readonly #settings: Settings;
  readonly #optimizer: Optimizer;
  readonly #ledger: Ledger;
  readonly #saver: Saver;
  readonly #health: HealthWatch;
  readonly #scaler: LossScaler | undefined;
  readonly #adapterCheck: AdapterCheck;

  constructor({ run, settings, optimizer, ledger, saver, health, scaler }: UpdatesOptions) {
    this.#run = run;
    this.#settings = settings;
    this.#optimizer = optimizer;
    this.#ledger = ledger;
    this.#saver = saver;
    this.#health = health;
    this.#scaler = scaler;
    this.#adapterCheck = new AdapterCheck(run.parameters);
  }

  /** One update from the batches [first, end) of an epoch; false when a callback stopped it before it was made. */
  async make(order: Int32Array, first: number, end: number): Promise<boolean> {
    const ledger = this.#ledger;
    const run = this.#run;
    const { args, scheduler } = this.#settings;
    const size = args.per_device_train_batch_size;
    const window: Sequence[][] = [];
    for (let batch = first; batch < end; batch++) {
      window.push(Array.from(order.subarray(batch * size, (batch + 1) * size), (row) => run.sequences[row]!));
    }
    const learningRate = scheduler.learningRate(ledger.scheduledStep);
    const options = { learningRate, maxGradNorm: args.max_grad_norm, lossScale: this.#scaler?.scale ?? 1 };
    try {
      const result = await makeUpdate(run, this.#optimizer, window, options, {
        computed: () => this.#substeps(window),
        beforeStep: () => ledger.tell("onPreOptimizerStep"),
      });
      await ledger.tell("onOptimizerStep");
      this.#health.good();
      this.#scaler?.good();
      ledger.countUpdate(result, learningRate, this.#flops(result.paddedTokens));
    } catch (error) {
      if (error instanceof UpdateFailure && error.kind === "stopped") return false;
      const bad = error instanceof BrokenWeights || (error instanceof UpdateFailure && error.kind === "non-finite");
      if (!bad) throw error;
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

  /** An update whose numbers are not finite is not made, or taken back, but counts: its data is used. */
  async #leaveOut(
    failure: UpdateFailure | BrokenWeights,
    result: StepResult,
    learningRate: number,
    rows: Int32Array,
  ): Promise<void> {
    const { loss, gradNorm } = result;
    if (failure instanceof UpdateFailure && this.#scaler?.mayOverflow && Number.isFinite(loss)) {
      failure.useRandom();
      return this.#overflow(this.#scaler, result, learningRate);
    }
    const found = failure instanceof BrokenWeights ? "weights" : "gradients";
    const { step, state } = this.#ledger;
    const sources = [...new Set([...rows].flatMap((row) => this.#run.sequences[row]!.sources ?? []))];
    const place = { step: step + 1, epoch: state.epoch, learningRate, examples: [...rows], sources };
    const action = await this.#health.bad({ ...place, loss, gradNorm, found }, this.#saver.path);
    if (action === "rollback") await this.#saver.rollBack();
    else if (failure instanceof UpdateFailure) failure.useRandom();
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

  /** The Trainer's estimate: 6 × padded tokens × parameters outside the embeddings, copies that are trained among them. */
  #flops(paddedTokens: number): number {
    const { model, lora, parameters, totalParameters } = this.#run;
    const { vocabSize, hiddenSize, embedding } = model.description;
    const embedded = (vocabSize + (embedding.positions?.count ?? 0)) * hiddenSize;
    const copies = lora ? parameters.filter(({ role }) => role === "embedding" || role === "position") : [];
    const copied = copies.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    return 6 * paddedTokens * (totalParameters - embedded - copied);
  }
}
