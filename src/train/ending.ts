/** How a run ended, said after it. */
import type { LogEntry, TrainerState, TrainOutput } from "../runFolder/state.js";
import { formatSeconds } from "../support/meter.js";
import { briefCount, briefLoss, plural } from "../support/words.js";

export interface Ending {
  output: TrainOutput;
  state: Readonly<TrainerState>;
  outputDir: string;
  /** What lies there: "a PEFT adapter", "a model". */
  result: string;
  /** The update that it went on from. */
  from: number;
  /** Evaluations in a row that were no better, when they ended it. */
  patience?: number;
}

/** Lines for a person: how it ended and when, the losses, where the result is. */
export function describeEnd({ output, state, outputDir, result, from, patience }: Ending): string[] {
  const { global_step: step, max_steps: total } = state;
  const { train_runtime: seconds = 0, train_tokens_per_second: speed = 0 } = output.metrics;
  if (output.interrupted) {
    const saved = output.checkpoint === undefined ? "" : `; its state is in ${output.checkpoint}`;
    return [`Interrupted after update ${step} of ${total}${saved}`];
  }
  const stopped = patience === undefined ? undefined : `${plural(patience, "evaluation")} without improvement`;
  const made = step - from;
  const time = made === 0 ? "" : `, in ${formatSeconds(seconds)} (${briefCount(speed)} tokens/s)`;
  return [`${how()}${time}`, ...losses(output, state), `Result      ${outputDir} (${result})`];

  function how(): string {
    if (made === 0 && from > 0) {
      const before = `Finished    before, at update ${step}`;
      return stopped === undefined
        ? `${before}: nothing is left to do. To train longer, raise num_train_epochs or max_steps.`
        : `${before}, after ${stopped}: nothing is left to do. To go on, raise early_stopping.patience.`;
    }
    if (stopped !== undefined) return `Stopped     early, at update ${step} of ${total}, after ${stopped}`;
    if (step < total) return `Stopped     at update ${step} of ${total}, by a callback`;
    return `Finished    ${plural(step, "update")}`;
  }
}

function losses(
  { training_loss: mean }: TrainOutput,
  { log_history: entries, best_metric, best_global_step }: Ending["state"],
) {
  const lines: string[] = [];
  const trained = lastAndBest(entries, "loss");
  if (trained) lines.push(`Loss        ${trained}${Number.isFinite(mean) ? `, mean ${briefLoss(mean)}` : ""}`);
  else if (Number.isFinite(mean)) lines.push(`Loss        ${briefLoss(mean)} on average`);
  const evaluated = lastAndBest(entries, "eval_loss");
  if (evaluated) lines.push(`Evaluation  loss ${evaluated}`);
  // loss speaks for itself above; another metric decided here
  if (best_metric !== null && !entries.some(({ eval_loss }) => eval_loss === best_metric)) {
    lines.push(`            the best metric was ${briefLoss(best_metric)}, at update ${best_global_step}`);
  }
  return lines;
}

/** `0.4813 at the end, 0.4705 at best (update 900)`; undefined where the entries do not have it. */
function lastAndBest(entries: readonly LogEntry[], name: string): string | undefined {
  const known = entries.filter((entry) => Number.isFinite(entry[name]));
  const last = known.at(-1);
  if (last === undefined) return undefined;
  const best = known.reduce((least, entry) => (entry[name]! < least[name]! ? entry : least));
  const at = best === last ? "" : `, ${briefLoss(best[name]!)} at best (update ${best.step})`;
  return `${briefLoss(last[name]!)} at the end${at}`;
}
