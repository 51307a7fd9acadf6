/** Every name in the folder of a run: what lies there, and what a new run may find there. */
import { randomBytes } from "node:crypto";

/** What the run is: config, plan, starts, changes of settings (record.ts). */
export const RUN = "run.json";
/** How it stands (status.ts). */
export const STATUS = "status.json";
/** What others ask of it (control.ts). */
export const CONTROL = "control.jsonl";
/** Who works in the folder. */
export const LOCK = ".lock";
/** The log entries, a line each. */
export const METRICS = "metrics.jsonl";
/** Losses and gradients that were no numbers, a line each. */
export const HEALTH_LOG = "health.jsonl";
/** Where TensorBoard's files lie, unless TENSORBOARD_LOGGING_DIR names another folder. */
export const TENSORBOARD = "runs";
/** The Trainer's state: in the folder as of the last save, and in each checkpoint. */
export const TRAINER_STATE = "trainer_state.json";

// in a checkpoint
/** Size and hash of each of its files, written last. */
export const MANIFEST = "manifest.json";
export const ARGUMENTS = "training_args.json";
/** What the Trainer's own files do not hold of a run that goes on. */
export const RESUME = "slimtune_run.json";
export const OPTIMIZER = "optimizer.safetensors";
export const RNG = "rng_state.safetensors";

export const checkpointName = (step: number) => `checkpoint-${step}`;

/** The update that a checkpoint's folder is named after. */
export function checkpointStep(name: string): number | undefined {
  const step = /^checkpoint-(0|[1-9]\d{0,14})$/.exec(name)?.[1];
  return step === undefined ? undefined : Number(step);
}

/** A checkpoint beside its place: being written, or replaced by a new one of its name, or on its way out. */
export const ASIDE = ["new", "old", "gone"] as const;
export type Aside = (typeof ASIDE)[number];

/** A name that nothing else has. */
export const asideName = (step: number, why: Aside) => `.checkpoint-${step}-${randomBytes(4).toString("hex")}-${why}`;

/** What such a name says; undefined for any other, a person's own `.checkpoint-mine` among them. */
export function readAsideName(name: string): { step: number; why: Aside } | undefined {
  const [, step, why] = /^\.checkpoint-(\d+)-[0-9a-f]{8}-(new|old|gone)$/.exec(name) ?? [];
  return step === undefined ? undefined : { step: Number(step), why: why as Aside };
}

/** Files that a killed process was still writing. */
export const isPartial = (name: string) =>
  /^\..+\.[0-9a-f]{12}\.tmp$/.test(name) ||
  /^\.lock\.[0-9a-f-]{36}$/.test(name) ||
  [RUN, STATUS, TRAINER_STATE, `.${METRICS}`].some((whole) => name === `${whole}.partial`);

/** Names that are nobody's result: records of a run that saved nothing, logs of a shell, hidden files. */
export const isHarmless = (name: string) =>
  name.startsWith(".") ||
  name.endsWith(".log") ||
  isPartial(name) ||
  [RUN, STATUS, CONTROL, METRICS, HEALTH_LOG, TENSORBOARD].includes(name);
