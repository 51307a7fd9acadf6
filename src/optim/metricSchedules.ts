/** Learning rates that follow an evaluation metric: equal to PyTorch's ReduceLROnPlateau and transformers' GreedyLR. */
import type { MetricScheduleState } from "../runFolder/state.js";
import type { Keywords } from "./keywords.js";

export interface MetricSchedule {
  /** Whether a smaller or a larger metric is better. */
  readonly mode: "min" | "max";
  readonly rate: number;
  /** Takes the metric of one evaluation. */
  observe(metric: number): void;
  state(): MetricScheduleState;
  /** Goes on from a saved state; another `learning_rate` than its moves the rate in proportion. */
  restore(state: MetricScheduleState): void;
}

/** What both schedules have in common: when a metric is better, and the smallest change of a rate that is made. */
abstract class Follower implements MetricSchedule {
  readonly mode: "min" | "max";
  protected current: MetricScheduleState;
  readonly #threshold: number;
  readonly #relative: boolean;
  readonly #eps: number;

  constructor(peak: number, keywords: Keywords, defaults: { threshold: number; mode: "rel" | "abs" }) {
    this.mode = keywords.choice("mode", ["min", "max"], "min");
    this.#threshold = keywords.number("threshold", defaults.threshold);
    this.#relative = keywords.choice("threshold_mode", ["rel", "abs"], defaults.mode) === "rel";
    this.#eps = keywords.number("eps", 1e-8);
    const counters = { bad: 0, good: 0, cooldown: 0, warmup: 0, untilReset: 0 };
    this.current = { peak, rate: peak, best: null, ...counters, window: [], sum: 0 };
  }

  get rate(): number {
    return this.current.rate;
  }

  abstract observe(metric: number): void;

  state(): MetricScheduleState {
    return structuredClone(this.current);
  }

  restore(saved: MetricScheduleState): void {
    const { peak } = this.current;
    const rate = saved.peak === peak ? saved.rate : (saved.rate * peak) / saved.peak;
    this.current = { ...structuredClone(saved), peak, rate };
  }

  protected isBetter(metric: number): boolean {
    const { best } = this.current;
    if (best === null) return true;
    const sign = this.mode === "min" ? -1 : 1;
    const bar = this.#relative ? best * (1 + sign * this.#threshold) : best + sign * this.#threshold;
    return this.mode === "min" ? metric < bar : metric > bar;
  }

  /** Changes smaller than `eps` are not made. */
  protected setRate(rate: number, down: boolean): void {
    const change = down ? this.current.rate - rate : rate - this.current.rate;
    if (change > this.#eps) this.current.rate = rate;
  }
}

/** Multiplies the rate by `factor` once the metric has not improved for more than `patience` evaluations. */
class ReduceOnPlateau extends Follower {
  readonly #factor: number;
  readonly #patience: number;
  readonly #cooldown: number;
  readonly #lowest: number;

  constructor(peak: number, keywords: Keywords) {
    super(peak, keywords, { threshold: 1e-4, mode: "rel" });
    this.#factor = keywords.number("factor", 0.1, { below: 1 });
    this.#patience = keywords.number("patience", 10, { min: 0 });
    this.#cooldown = keywords.number("cooldown", 0, { min: 0 });
    this.#lowest = keywords.number("min_lr", 0, { min: 0 });
  }

  observe(metric: number): void {
    const state = this.current;
    if (this.isBetter(metric)) {
      state.best = metric;
      state.bad = 0;
    } else {
      state.bad++;
    }
    if (state.cooldown > 0) {
      state.cooldown--;
      state.bad = 0;
    }
    if (state.bad > this.#patience) {
      this.setRate(Math.max(state.rate * this.#factor, this.#lowest), true);
      state.cooldown = this.#cooldown;
      state.bad = 0;
    }
  }
}

/** Divides the rate by `factor` while the metric keeps improving, and multiplies it while it does not. */
class Greedy extends Follower {
  readonly #factor: number;
  readonly #patience: number;
  readonly #cooldown: number;
  readonly #warmup: number;
  readonly #lowest: number;
  readonly #highest: number;
  readonly #window: number | undefined;
  readonly #resetAfter: number;

  constructor(peak: number, keywords: Keywords) {
    super(peak, keywords, { threshold: 1e-6, mode: "abs" });
    this.#factor = keywords.number("factor", 0.95, { above: 0, below: 1 });
    this.#patience = keywords.number("patience", 10, { min: 0 });
    this.#cooldown = keywords.number("cooldown", 0, { min: 0 });
    this.#warmup = keywords.number("warmup", 0, { min: 0 });
    this.#lowest = keywords.number("min_lr", 1e-3, { min: 0 });
    this.#highest = keywords.number("max_lr", 1, { min: 0 });
    const window = keywords.number("window_size", 50, { min: 1 });
    this.#window = keywords.boolean("smooth", false) ? window : undefined;
    this.#resetAfter = keywords.number("reset_start", 500, { min: 0 });
    this.current.untilReset = this.#resetAfter;
  }

  observe(metric: number): void {
    const state = this.current;
    const value = this.#smoothed(metric);
    if (state.cooldown > 0 || state.warmup > 0) {
      if (state.cooldown > 0) state.cooldown--;
      else state.warmup--;
      state.bad = 0;
      state.good = 0;
      return;
    }
    if (this.isBetter(value)) {
      state.best = value;
      state.bad = 0;
      state.good++;
    } else {
      state.bad++;
      state.good = 0;
    }
    if (state.good > this.#patience) {
      this.setRate(Math.min(state.rate / this.#factor, this.#highest), false);
      state.untilReset = this.#resetAfter;
      state.warmup = this.#warmup;
      state.good = 0;
    } else if (state.bad > this.#patience) {
      this.#reduce();
      this.current.cooldown = this.#cooldown;
      this.current.bad = 0;
    }
  }

  #reduce(): void {
    const state = this.current;
    this.setRate(Math.max(state.rate * this.#factor, this.#lowest), true);
    if (state.rate > this.#lowest) return;
    state.untilReset--;
    if (state.untilReset > 0) return;
    const { peak } = state;
    const counters = { bad: 0, good: 0, cooldown: 0, warmup: 0, untilReset: this.#resetAfter };
    this.current = { peak, rate: peak, best: null, ...counters, window: [], sum: 0 };
  }

  #smoothed(metric: number): number {
    if (this.#window === undefined) return metric;
    const state = this.current;
    state.window.push(metric);
    state.sum += metric;
    if (state.window.length > this.#window) state.sum -= state.window.shift()!;
    return state.sum / state.window.length;
  }
}

export const METRIC_SCHEDULES: Record<string, (peak: number, keywords: Keywords) => MetricSchedule> = {
  reduce_lr_on_plateau: (peak, keywords) => new ReduceOnPlateau(peak, keywords),
  greedy: (peak, keywords) => new Greedy(peak, keywords),
};
