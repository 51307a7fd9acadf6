import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";
import { Keywords } from "./keywords.js";
import { METRIC_SCHEDULES, type MetricSchedule } from "./metricSchedules.js";

/** The training arguments that a schedule follows from. */
export interface ScheduleArguments {
  learning_rate: number;
  lr_scheduler_type: string;
  /** Mapping, JSON text of one, or null. */
  lr_scheduler_kwargs: Record<string, unknown> | string | null;
  /** Updates, or below 1 a share of all updates. */
  warmup_steps: number;
}

export interface Scheduler {
  readonly name: string;
  readonly warmupSteps: number;
  /** The learning rate of the update that follows `step` finished ones: update 1 uses `learningRate(0)`. */
  learningRate(step: number): number;
  /** Of the schedules that follow an evaluation metric instead of the number of updates. */
  readonly metric?: MetricSchedule;
}

/** The shape of one run: `w` warm-up updates, `n` updates in all, `lr` the peak. */
interface Run {
  w: number;
  n: number;
  lr: number;
}

/** What `learning_rate` is multiplied by. */
type Factor = (step: number) => number;

/** Warm-up updates of a run of `maxSteps`: a share is rounded up, a count is rounded down. */
export function warmupSteps(warmup: number, maxSteps: number): number {
  return warmup >= 1 ? Math.trunc(warmup) : Math.ceil(maxSteps * warmup);
}

/**
 * The learning-rate schedule of a run, equal to transformers 5.18's of the same name (optimization.py).
 * @throws UserError when a parameter in `lr_scheduler_kwargs` is unknown, missing or out of range.
 */
export function createScheduler(args: ScheduleArguments, { maxSteps }: { maxSteps: number }): Scheduler {
  const name = args.lr_scheduler_type;
  const keywords = new Keywords("lr_scheduler_kwargs", `lr_scheduler_type ${name}`, mapping(args.lr_scheduler_kwargs));
  const follow = Object.hasOwn(METRIC_SCHEDULES, name) ? METRIC_SCHEDULES[name] : undefined;
  if (follow !== undefined) {
    const metric = follow(args.learning_rate, keywords);
    keywords.refuseUnread();
    return { name, warmupSteps: 0, learningRate: () => metric.rate, metric };
  }
  const create = Object.hasOwn(SCHEDULES, name) ? SCHEDULES[name] : undefined;
  if (create === undefined) {
    const names = [...Object.keys(SCHEDULES), ...Object.keys(METRIC_SCHEDULES)];
    throw new UserError(
      `lr_scheduler_type: there is no schedule "${name}"${didYouMean(name, names)}; use one of ${names.join(", ")}`,
    );
  }
  const w = warmupSteps(args.warmup_steps, maxSteps);
  const factor = create({ w, n: maxSteps, lr: args.learning_rate }, keywords);
  keywords.refuseUnread();
  return { name, warmupSteps: w, learningRate: (step) => args.learning_rate * factor(step) };
}

/** `lr_scheduler_kwargs` as a mapping; on a command line it is JSON. */
function mapping(kwargs: ScheduleArguments["lr_scheduler_kwargs"]): Record<string, unknown> {
  if (typeof kwargs !== "string") return kwargs ?? {};
  try {
    const value: unknown = JSON.parse(kwargs);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // said below, with the text
  }
  throw new UserError(
    `lr_scheduler_kwargs: expected a mapping or JSON such as {"num_cycles": 2}, got ${JSON.stringify(kwargs)}`,
  );
}

const SCHEDULES: Record<string, (run: Run, keywords: Keywords) => Factor> = {
  linear: ({ w, n }) => withWarmup(w, (step) => Math.max(0, (n - step) / Math.max(1, n - w))),

  cosine: (run, keywords) => withWarmup(run.w, halfCosine(run, keywords.number("num_cycles", 0.5))),

  cosine_with_restarts: (run, keywords) => {
    const cycles = keywords.number("num_cycles", 1);
    return withWarmup(run.w, (step) => {
      const p = progress(run, step);
      return p >= 1 ? 0 : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * p) % 1))));
    });
  },

  polynomial: ({ w, n, lr }, keywords) => {
    const end = keywords.number("lr_end", 1e-7);
    const power = keywords.number("power", 1);
    if (!(lr > end)) keywords.fail(`lr_end (${end}) must be below learning_rate (${lr})`);
    return withWarmup(w, (step) => {
      if (step > n || n === w) return end / lr;
      const remaining = 1 - (step - w) / (n - w);
      return ((lr - end) * remaining ** power + end) / lr;
    });
  },

  constant: () => () => 1,

  constant_with_warmup: ({ w }) => withWarmup(w, () => 1),

  inverse_sqrt: ({ w }, keywords) => {
    const timescale = keywords.number("timescale", w || 10_000, { above: 0 });
    return withWarmup(w, (step) => 1 / Math.sqrt((step + timescale - w) / timescale));
  },

  cosine_with_min_lr: (run, keywords) => {
    const floor = minLrRate(run, keywords);
    const cosine = halfCosine(run, keywords.number("num_cycles", 0.5));
    return withWarmup(run.w, (step) => Math.max(0, raised(cosine(step), floor)));
  },

  // Warm-up ends, and the minimum is reached, one update early in transformers; equal to it, oddity included.
  cosine_warmup_with_min_lr: (run, keywords) => {
    const { w } = run;
    const floor = minLrRate(run, keywords);
    const start = keywords.optionalNumber("warmup_lr_rate");
    const cycles = keywords.number("num_cycles", 0.5);
    return (step) => {
      if (step < w) {
        return start === undefined ? (step + 1) / Math.max(1, w) : start + ((1 - start) * step) / Math.max(1, w - 1);
      }
      const p = (step - w + 1) / Math.max(1, run.n - w);
      return Math.max(0, raised(0.5 * (1 + Math.cos(Math.PI * cycles * 2 * p)), floor));
    };
  },

  warmup_stable_decay: ({ w, n }, keywords) => {
    const decay = keywords.optionalNumber("num_decay_steps", { min: 0 });
    if (decay === undefined) return keywords.fail("num_decay_steps is required: the number of updates of the decay");
    const stable = keywords.number("num_stable_steps", n - w - decay);
    const up = SHAPES[keywords.choice("warmup_type", Object.keys(SHAPES), "linear")]!;
    const down = SHAPES[keywords.choice("decay_type", Object.keys(SHAPES), "cosine")]!;
    const floor = keywords.number("min_lr_ratio", 0);
    const cycles = keywords.number("num_cycles", 0.5);
    return (step) => {
      if (step < w) return Math.max(0, raised(up.rise(step / Math.max(1, w)), floor));
      if (step < w + stable) return 1;
      if (step >= w + stable + decay) return floor;
      return Math.max(0, raised(down.fall((step - w - stable) / Math.max(1, decay), cycles), floor));
    };
  },
};

/** The curves of warmup_stable_decay, over a progress `p` from 0 to 1. */
const SHAPES: Record<string, { rise: (p: number) => number; fall: (p: number, cycles: number) => number }> = {
  linear: { rise: (p) => p, fall: (p) => 1 - p },
  cosine: {
    rise: (p) => 0.5 * (1 - Math.cos(Math.PI * p)),
    fall: (p, cycles) => 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * p)),
  },
  "1-sqrt": { rise: (p) => 1 - Math.sqrt(1 - p), fall: (p) => 1 - Math.sqrt(p) },
};

const withWarmup =
  (w: number, after: Factor): Factor =>
  (step) =>
    step < w ? step / Math.max(1, w) : after(step);

const progress = ({ w, n }: Run, step: number) => (step - w) / Math.max(1, n - w);

const halfCosine =
  (run: Run, cycles: number): Factor =>
  (step) =>
    Math.max(0, 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress(run, step))));

/** `factor` of 0 to 1 moved to the range from `floor` to 1. */
const raised = (factor: number, floor: number) => factor * (1 - floor) + floor;

function minLrRate({ lr }: Run, keywords: Keywords): number {
  const absolute = keywords.optionalNumber("min_lr");
  const rate = keywords.optionalNumber("min_lr_rate");
  if (absolute !== undefined && rate !== undefined) return keywords.fail("give min_lr or min_lr_rate, not both");
  if (rate !== undefined) return rate;
  if (absolute === undefined) return keywords.fail("min_lr or min_lr_rate is required");
  if (lr === 0) return keywords.fail("min_lr needs a learning_rate above 0; use min_lr_rate");
  return absolute / lr;
}
