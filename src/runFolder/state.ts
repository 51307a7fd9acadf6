/** What a run remembers of itself on disk. */
import { z } from "zod";

const count = z.int().min(0);
const amount = z.number().min(0);
/** JSON has no NaN: it becomes null. */
const figure = z.number().nullable();

/** One entry of `log_history`; `epoch` and `step` are in every one. */
export const logEntrySchema = z.record(z.string(), z.number());
/** Figures by name: `loss`, `grad_norm`, `learning_rate`, `eval_loss`, ..., with `epoch` and `step`. */
export type LogEntry = z.output<typeof logEntrySchema>;

/** What `trainer_state.json` holds, by the names of transformers. */
export const trainerStateSchema = z.object({
  epoch: amount,
  global_step: count.describe("Finished optimizer updates."),
  max_steps: count,
  logging_steps: count,
  eval_steps: count,
  save_steps: count,
  train_batch_size: count.nullable(),
  num_train_epochs: count,
  num_input_tokens_seen: count,
  total_flos: amount,
  log_history: z.array(logEntrySchema),
  best_metric: z.number().nullable(),
  best_global_step: count.nullable(),
  best_model_checkpoint: z.string().nullable(),
  is_local_process_zero: z.boolean(),
  is_world_process_zero: z.boolean(),
  is_hyper_param_search: z.boolean(),
  trial_name: z.string().nullable(),
  trial_params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).nullable(),
  stateful_callbacks: z.record(z.string(), z.unknown()),
});
/** The Trainer's state by transformers' names, as `trainer_state.json` has it. */
export type TrainerState = z.output<typeof trainerStateSchema>;

/** Step intervals as the arguments have them: counts, or below 1 shares of `max_steps`. */
interface Intervals {
  logging_steps: number;
  eval_steps: number | null;
  save_steps: number;
}

/** The state at the start of a run; step intervals below 1 are shares of `max_steps`, rounded up. */
export function newTrainerState(
  args: Intervals,
  run: { max_steps: number; num_train_epochs: number; train_batch_size: number },
): TrainerState {
  const updates = (interval: number) => (interval < 1 ? Math.ceil(run.max_steps * interval) : interval);
  return {
    ...run,
    epoch: 0,
    global_step: 0,
    logging_steps: updates(args.logging_steps),
    eval_steps: updates(args.eval_steps ?? 500), // the Trainer's own default of its state
    save_steps: updates(args.save_steps),
    num_input_tokens_seen: 0,
    total_flos: 0,
    log_history: [],
    best_metric: null,
    best_global_step: null,
    best_model_checkpoint: null,
    is_local_process_zero: true,
    is_world_process_zero: true,
    is_hyper_param_search: false,
    trial_name: null,
    trial_params: null,
    stateful_callbacks: {},
  };
}

/** Keys in trainer_state.json are sorted, as the Trainer writes them. */
export function stateJson(state: TrainerState): string {
  const sorted = Object.fromEntries(Object.entries(state).sort(([a], [b]) => (a < b ? -1 : 1)));
  return `${JSON.stringify(sorted, null, 2)}\n`;
}

/** The loss scale of fp16. */
const lossScalerSchema = z.object({
  scale: amount,
  growth: count.describe("Updates without an overflow since the scale last changed."),
  overflows: count.describe("Updates that overflowed in the run."),
  overflowsSinceLog: count,
});
export type LossScalerState = z.output<typeof lossScalerSchema>;

/** A learning rate that follows a metric: what it carries from one evaluation to the next. */
const metricScheduleSchema = z.object({
  peak: amount.describe("The learning_rate that it was made with."),
  rate: amount,
  best: figure.describe("null: no metric was better than none yet."),
  bad: count,
  good: count,
  cooldown: count.describe("Evaluations still to be let pass after a change of the rate."),
  warmup: count,
  untilReset: z.int().describe("GreedyLR: reductions at the lowest rate until it starts afresh."),
  window: z.array(z.number()).describe("GreedyLR with smooth: the last metrics, and their running sum."),
  sum: z.number(),
});

export type MetricScheduleState = z.output<typeof metricScheduleSchema>;

/** What a run has counted that trainer_state.json does not hold. */
export const tallySchema = z.object({
  lossSum: figure.describe("Of the losses of all updates that were made."),
  lossSinceLog: figure,
  lastLoggedStep: count,
  tokens: count,
  seconds: amount.describe("Of training, before this process."),
  skipped: count.describe(
    "Updates that were left out because they were not finite, in the run and since the last log.",
  ),
  skippedSinceLog: count,
  scheduleLag: count.describe("Updates that the learning rate's schedule did not count, because they overflowed."),
  epochsEnded: count.describe("Epochs whose end was told; an epoch's last update may be saved before."),
  pending: z
    .object({ save: z.boolean() })
    .optional()
    .describe(
      "An evaluation was due at this update and is not made, because the run was stopped during it; and a save after it.",
    ),
  askedSaves: z
    .array(count)
    .describe("Updates whose checkpoint is there only because someone asked: a run left alone would not have it."),
  last: z
    .object({ loss: figure, gradNorm: figure, learningRate: figure })
    .optional()
    .describe("The last update's figures, for a log entry that is due after the checkpoint."),
  lossScaler: lossScalerSchema.optional(),
  schedule: metricScheduleSchema.optional(),
  epochRandom: z
    .string()
    .optional()
    .describe("The default generator's state (base64) when it drew the epoch's order, where that order comes from it."),
});
export type Tally = z.output<typeof tallySchema>;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** What must be the same for a resumed run to be the same run, as SHA-256 sums. */
export const identitySchema = z.object({
  dataset: sha256.describe("Of the token ids and labels of all examples."),
  parameters: sha256.describe("Of the names and shapes of what is trained, and of the adapters' scaling and dropout."),
  base: sha256.describe("Of the base model: its config, and under an adapter its weights and how they are quantized."),
  evaluation: sha256.optional().describe("Of the evaluation's examples."),
});
export type RunIdentity = z.output<typeof identitySchema>;

/** What was about to be made. */
export interface Suspect {
  step: number;
  epoch: number;
  loss: number;
  gradNorm: number;
  learningRate: number;
  /** What is not finite. */
  found: Incident["found"];
  examples: number[];
  sources: string[];
}

/** One bad update, as a line of health.jsonl. */
export interface Incident {
  /** ISO 8601 */
  time: string;
  /** The update that was not made, counted from 1. */
  step: number;
  epoch: number;
  /** A number, or "NaN", "Infinity" or "-Infinity". */
  loss: number | string;
  grad_norm: number | string;
  learning_rate: number;
  /** What is not finite: the loss or a gradient, or weights and states that a step made of finite ones. */
  found: "gradients" | "weights";
  /** The examples of the update, as numbers of the prepared dataset from 0. */
  examples: number[];
  /** Where those examples stand: `file:line`. */
  sources: string[];
  action: "stop" | "skip" | "rollback";
  /** Bad updates one after another, this one included. */
  in_a_row: number;
}

/** How a run ended. */
export interface TrainOutput {
  /** Finished updates. */
  global_step: number;
  /** Mean loss over all updates of the run. */
  training_loss: number;
  /** `train_runtime` (seconds), `train_samples_per_second`, `train_tokens_per_second`, `train_loss`, ...; {} when interrupted. */
  metrics: Record<string, number>;
  /** True when the run was asked to stop early; `checkpoint` is then where to resume. */
  interrupted: boolean;
  /** The newest checkpoint; undefined where none was saved. */
  checkpoint?: string;
}
