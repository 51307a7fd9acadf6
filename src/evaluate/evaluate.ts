/** Measuring a model on examples that it does not learn from. */

import { drawLoaderSeed } from "../data/order.js";
import { collate, type Sequence } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import type { TokenScores } from "../models/scores.js";
import { UserError } from "../support/errors.js";
import { type Device, rngStates, setRngStates } from "../torch/index.js";

/** One example and what the model makes of it. Position i of each list is about token i, given those before it. */
export interface EvaluatedExample {
  inputIds: Int32Array;
  /** The token where the model is measured, -100 elsewhere. */
  labels: Int32Array;
  /** The model's likeliest token where it is measured, -100 elsewhere. */
  predictions: Int32Array;
  /** -log of the label's probability where the model is measured, 0 elsewhere. */
  losses: Float32Array;
}

export interface EvaluationTask {
  model: CausalLM;
  sequences: readonly Sequence[];
  batchSize: number;
  /** Of the metrics' names, without `_`. Default: eval. */
  prefix?: string;
  /** What the examples are called in messages. Default: eval_dataset. */
  label?: string;
  /** Gets every example, also without a metric function. */
  onExamples?: (examples: readonly EvaluatedExample[]) => void;
  /** No accuracy, no entropy, no metric function. */
  lossOnly: boolean;
  labelSmoothing: number;
  /** Metrics of one's own, by names without prefix; the random numbers of the run are not touched by it. */
  compute?: (examples: readonly EvaluatedExample[]) => Record<string, number> | Promise<Record<string, number>>;
  /** After each batch, counted from 1. */
  onBatch?: (batch: number, batches: number) => Promise<void> | void;
  /** Asked after each batch; true ends the evaluation without a result. */
  stopRequested?: () => boolean;
}

/**
 * Metrics of a model on examples: means over all labelled tokens, so that `batchSize` changes none of them.
 * Draws one number from the default generator, as Python's data loader does.
 * @returns the metrics with the prefix; undefined when it was stopped: the generator is then as it was before
 * @throws UserError for a loss that is no finite number, or a metric function that does not return finite numbers
 */
export async function evaluate(task: EvaluationTask): Promise<Record<string, number> | undefined> {
  const begun = performance.now();
  const { device } = task.model.decoder;
  const before = await rngStates(device);
  drawLoaderSeed();
  const { model, sequences, batchSize, lossOnly, labelSmoothing, onExamples, prefix = "eval" } = task;
  const compute = lossOnly ? undefined : task.compute;
  const collects = compute !== undefined || onExamples !== undefined;
  const evaluated: EvaluatedExample[] = [];
  const sums = { losses: 0, smoothed: 0, entropies: 0, correct: 0, tokens: 0 };
  const batches = Math.ceil(sequences.length / batchSize);
  for (let index = 0; index < batches; index++) {
    const rows = sequences.slice(index * batchSize, (index + 1) * batchSize);
    const batch = collate(rows);
    const { targets } = batch;
    if (targets.length > 0) {
      const statistics = !lossOnly || onExamples !== undefined;
      const scores = await read(model.score(batch, { statistics, labelSmoothing }));
      const bad = scores.losses.findIndex((loss) => !Number.isFinite(loss));
      if (bad >= 0) throw notFinite(task, scores.losses[bad]!, index * batchSize, rows, batch.targetRows[bad]!);
      sums.tokens += targets.length;
      for (const name of ["losses", "smoothed", "entropies"] as const) {
        for (const value of scores[name]) sums[name] += value;
      }
      for (const [place, prediction] of scores.predictions.entries()) {
        if (prediction === targets[place]) sums.correct++;
      }
      if (collects) evaluated.push(...byExample(rows, batch.targetRows, targets, scores));
    } else if (collects) {
      evaluated.push(...byExample(rows, [], [], NOTHING));
    }
    await task.onBatch?.(index + 1, batches);
    if (task.stopRequested?.()) {
      setRngStates(before);
      return undefined;
    }
  }
  const { tokens } = sums;
  const nll = sums.losses / tokens;
  const metrics: Record<string, number> = {
    loss: labelSmoothing > 0 ? sums.smoothed / tokens : nll,
    perplexity: Math.exp(nll),
  };
  if (!lossOnly) {
    metrics.mean_token_accuracy = sums.correct / tokens;
    metrics.entropy = sums.entropies / tokens;
  }
  onExamples?.(evaluated);
  const owned = compute ? await own(compute, evaluated, device) : {};
  const seconds = (performance.now() - begun) / 1000;
  const speed = {
    runtime: seconds,
    samples_per_second: sequences.length / seconds,
    steps_per_second: batches / seconds,
  };
  return named(prefix, metrics, owned, speed);
}

/** A name that has the prefix already keeps it. */
function named(prefix: string, ...groups: Record<string, number>[]): Record<string, number> {
  const entries = groups.flatMap((group) => Object.entries(group));
  return Object.fromEntries(
    entries.map(([name, value]) => [name.startsWith(`${prefix}_`) ? name : `${prefix}_${name}`, value]),
  );
}

interface ScoreValues {
  losses: Float32Array;
  smoothed: Float32Array;
  entropies: Float32Array;
  predictions: Int32Array;
}

const NONE = new Float32Array();
const NOTHING: ScoreValues = { losses: NONE, smoothed: NONE, entropies: NONE, predictions: new Int32Array() };

async function read(scores: TokenScores): Promise<ScoreValues> {
  const { losses, smoothed, entropies, predictions } = scores;
  try {
    return {
      losses: (await losses.values()) as Float32Array,
      smoothed: smoothed ? ((await smoothed.values()) as Float32Array) : NONE,
      entropies: entropies ? ((await entropies.values()) as Float32Array) : NONE,
      predictions: predictions
        ? Int32Array.from((await predictions.values()) as BigInt64Array, Number)
        : new Int32Array(),
    };
  } finally {
    for (const tensor of [losses, smoothed, entropies, predictions]) tensor?.dispose();
  }
}

/** Scores of a batch's labelled tokens, dealt out to its rows. */
function byExample(
  rows: readonly Sequence[],
  targetRows: ArrayLike<number>,
  targets: ArrayLike<number>,
  scores: ScoreValues,
): EvaluatedExample[] {
  let start = 0;
  let place = 0;
  return rows.map(({ inputIds }) => {
    const { length } = inputIds;
    const labels = new Int32Array(length).fill(-100);
    const predictions = new Int32Array(length).fill(-100);
    const losses = new Float32Array(length);
    for (; place < targetRows.length && targetRows[place]! < start + length; place++) {
      const token = targetRows[place]! - start + 1; // a row's score is about the token after it
      labels[token] = targets[place]!;
      predictions[token] = scores.predictions[place]!;
      losses[token] = scores.losses[place]!;
    }
    start += length;
    return { inputIds, labels, predictions, losses };
  });
}

function notFinite(
  { prefix = "eval", label = "eval_dataset" }: EvaluationTask,
  loss: number,
  first: number,
  rows: readonly Sequence[],
  row: number,
): UserError {
  let index = 0;
  for (let end = rows[0]!.inputIds.length; end <= row; end += rows[index]!.inputIds.length) index++;
  return new UserError(
    `${prefix}_loss: the model's loss on example ${first + index} of ${label} is ${loss}: its weights or numbers are broken. Go back to an earlier checkpoint, with a lower learning_rate or a lower max_grad_norm.`,
    { code: "not_finite" },
  );
}

/** Metrics of the user's own function. */
async function own(
  compute: NonNullable<EvaluationTask["compute"]>,
  examples: readonly EvaluatedExample[],
  device: Device,
): Promise<Record<string, number>> {
  const before = await rngStates(device);
  const metrics = await compute(examples);
  setRngStates(before);
  if (typeof metrics !== "object" || metrics === null) {
    throw new UserError(`computeMetrics: expected an object of numbers by name, got ${JSON.stringify(metrics)}`);
  }
  return Object.fromEntries(
    Object.entries(metrics).map(([name, value]) => {
      if (typeof value === "number" && Number.isFinite(value)) return [name, value];
      throw new UserError(
        `computeMetrics: ${name} is ${String(value)}; a metric must be a finite number (leave it out where there is none)`,
      );
    }),
  );
}
