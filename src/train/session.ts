/** A model in memory, with its data, before and after the run that trains it: what a Trainer can be asked besides training. */
import { mkdir, realpath } from "node:fs/promises";
import type { TrainingArguments } from "../arguments/index.js";
import { CallbackHandler, type TrainerCallback } from "../callbacks/callbacks.js";
import { type EvaluationRows, evaluationRows } from "../data/runData.js";
import type { EvalDatasetInput } from "../data/sources.js";
import { Tokenizer } from "../data/tokenizer.js";
import type { EvaluatedExample } from "../evaluate/evaluate.js";
import { type EvaluationSet, loadEvaluations } from "../evaluate/evaluationData.js";
import { type ComputeMetrics, Evaluator, prefixOf } from "../evaluate/evaluator.js";
import { generatorFor, type TextGenerator } from "../generate/index.js";
import type { TrainerState } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { rngStates, setRngStates } from "../torch/index.js";
import { Ledger } from "./ledger.js";
import type { PreparedRun } from "./prepare.js";
import { writeModelFiles } from "./saving/artifacts.js";
import { Settings } from "./settings.js";

export interface SessionOptions {
  args: TrainingArguments;
  computeMetrics?: ComputeMetrics;
  /** Who hears of evaluations outside of the run. */
  callbacks: readonly TrainerCallback[];
}

/** What `predict` gives. */
export interface Prediction {
  /** In the order of the dataset, packed rows as one. */
  examples: EvaluatedExample[];
  /** `test_loss`, `test_perplexity`, ... */
  metrics: Record<string, number>;
}

type RandomStates = Awaited<ReturnType<typeof rngStates>>;

export class Session {
  readonly run: PreparedRun;
  readonly evaluator: Evaluator;
  readonly #options: SessionOptions;
  readonly #callbacks: CallbackHandler;
  readonly #settings: Settings;
  #ledger: Ledger;
  #own: Promise<EvaluationSet[]> | undefined;
  /** The run's random numbers go on where they were, whatever was drawn in between. */
  #random: RandomStates;

  private constructor(run: PreparedRun, options: SessionOptions, random: RandomStates) {
    this.run = run;
    this.#options = options;
    this.#random = random;
    const { args, computeMetrics } = options;
    this.evaluator = new Evaluator({ model: run.model, modelFolder: run.modelFolder, args, computeMetrics });
    this.#callbacks = new CallbackHandler(options.callbacks);
    this.#settings = new Settings(args, run.sequences.length);
    this.#ledger = this.#newLedger();
  }

  static async open(run: PreparedRun, options: SessionOptions): Promise<Session> {
    return new Session(run, options, await rngStates(run.device));
  }

  get state(): Readonly<TrainerState> {
    return this.#ledger.state;
  }

  /** The generators are as the run is to find them. */
  resumeRandom(): void {
    setRngStates(this.#random);
  }

  /** The run is over, and this is what it has done. */
  async takeOver(ledger: Ledger): Promise<void> {
    this.#random = await rngStates(this.run.device);
    this.#ledger = this.#newLedger();
    this.#ledger.continueFrom(ledger.saved());
  }

  /** Metrics by name, which are logged and told as those of the run. */
  async evaluate(dataset: EvalDatasetInput | undefined, prefix: string): Promise<Record<string, number>> {
    const sets =
      dataset === undefined ? await this.#ownSets() : await this.#load(evaluationRows(dataset, this.#options.args));
    const ledger = this.#ledger;
    const all: Record<string, number> = {};
    this.resumeRandom();
    for (const set of sets) {
      const named = prefixOf(prefix, set);
      const found = await this.evaluator.evaluate(set, { prefix: named, onBatch: this.#onBatch });
      const metrics = { ...found, [`${named}_num_tokens`]: ledger.tally.tokens };
      await ledger.recordEvaluation(metrics);
      Object.assign(all, metrics);
    }
    this.#random = await rngStates(this.run.device);
    return { ...all, epoch: ledger.state.epoch };
  }

  /** What the model makes of each token of a dataset; nothing is logged. */
  async predict(dataset: EvalDatasetInput, prefix: string): Promise<Prediction> {
    const sets = await this.#load(evaluationRows(dataset, this.#options.args, "predict"));
    if (sets.length > 1 || sets[0]!.name !== undefined)
      throw new UserError("predict(): it takes one dataset, without a name.");
    let examples: EvaluatedExample[] = [];
    this.resumeRandom();
    const metrics = await this.evaluator.evaluate(sets[0]!, {
      prefix,
      onBatch: this.#onBatch,
      onExamples: (all) => {
        examples = [...all];
      },
    });
    this.#random = await rngStates(this.run.device);
    await this.#ledger.tell("onPredict", { metrics });
    return { examples, metrics: metrics! }; // nobody asks it to stop
  }

  /** The model as it is now; it stays the session's. */
  async generator(): Promise<TextGenerator> {
    const { model, modelFolder } = this.run;
    const { eos_token } = this.#options.args;
    const tokenizer = await Tokenizer.load(modelFolder);
    const own = eos_token === null ? tokenizer : tokenizer.withEosToken(eos_token);
    return generatorFor(model, modelFolder, own, { borrowed: true });
  }

  async save(folder: string): Promise<void> {
    try {
      await mkdir(folder, { recursive: true });
      if ((await realpath(folder)) === (await realpath(this.run.modelFolder))) {
        throw new UserError(`saveModel: ${folder} is the folder that the model came from. Choose another one.`);
      }
      await writeModelFiles(folder, this.run);
    } catch (error) {
      if (!(error as NodeJS.ErrnoException).code || error instanceof UserError) throw error;
      throw new UserError(`saveModel: the model cannot be written to ${folder}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  dispose(): void {
    this.run.model.dispose();
  }

  readonly #onBatch = (batch: number, batches: number) => this.#ledger.tell("onPredictionStep", { batch, batches });

  /** Those of the config, loaded when they are first needed. */
  async #ownSets(): Promise<EvaluationSet[]> {
    const { evaluations, evaluationRows: rows } = this.run;
    if (rows.length === 0) {
      throw new UserError("evaluate(): there is nothing to evaluate on. Set eval_dataset, or give it a dataset.");
    }
    this.#own ??= evaluations.length > 0 ? Promise.resolve(evaluations) : this.#load(rows);
    return this.#own.catch((error) => {
      this.#own = undefined;
      throw error;
    });
  }

  #load(rows: readonly EvaluationRows[]): Promise<EvaluationSet[]> {
    return loadEvaluations(rows, this.run.source, this.#options.args);
  }

  #newLedger(): Ledger {
    return new Ledger(this.#settings, this.#callbacks, this.run.device, undefined);
  }
}
