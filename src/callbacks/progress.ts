import type { TrainingArguments } from "../arguments/index.js";
import type { LogEntry, TrainerState } from "../runFolder/state.js";
import { shown } from "../support/plainText.js";
import type { CallbackContext, TrainerCallback, TrainerControl } from "./callbacks.js";

/** Where the bar and the lines go; `process.stderr` and `process.stdout` are such streams. */
export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

const REDRAW_EVERY_MS = 100;
const WIDEST_BAR = 30;
const NARROWEST_BAR = 10;

/**
 * Shows a run: one live bar on a terminal (stderr), and a plain line for each log entry (stdout), above the bar where
 * both are on one screen. Without a terminal, or with `disable_tqdm`, there are the lines only.
 */
export class ProgressCallback implements TrainerCallback {
  private readonly screen: Terminal;
  private readonly lines: Terminal;
  private readonly now: () => number;
  private live = false;
  private drawnAt = Number.NEGATIVE_INFINITY;
  private startedAt = 0;
  private firstStep = 0;
  private last: LogEntry = {};
  private evaluating = "";

  constructor(options: { screen?: Terminal; lines?: Terminal; now?: () => number } = {}) {
    this.screen = options.screen ?? process.stderr;
    this.lines = options.lines ?? process.stdout;
    this.now = options.now ?? (() => performance.now());
  }

  onTrainBegin(args: TrainingArguments, state: TrainerState, _: TrainerControl, context: CallbackContext): void {
    this.live = this.screen.isTTY === true && args.disable_tqdm !== true;
    this.startedAt = this.now();
    this.firstStep = state.global_step;
    this.draw(state, context);
  }

  onSubstepEnd(_: TrainingArguments, state: TrainerState, __: TrainerControl, context: CallbackContext): void {
    this.drawNowAndThen(state, context);
  }

  onStepEnd(_: TrainingArguments, state: TrainerState, __: TrainerControl, context: CallbackContext): void {
    this.drawNowAndThen(state, context);
  }

  onPredictionStep(
    _: TrainingArguments,
    state: TrainerState,
    __: TrainerControl,
    context: CallbackContext & { readonly batch: number; readonly batches: number },
  ): void {
    this.evaluating = `evaluating ${context.batch}/${context.batches}`;
    this.drawNowAndThen(state, context);
  }

  onLog(
    _: TrainingArguments,
    state: TrainerState,
    __: TrainerControl,
    context: CallbackContext & { readonly logs: Readonly<LogEntry> },
  ): void {
    this.last = { ...this.last, ...context.logs };
    this.evaluating = "";
    this.clear();
    this.lines.write(`${shown(formatLog(context.logs))}\n`);
    this.draw(state, context);
  }

  onTrainEnd(_: TrainingArguments, state: TrainerState, __: TrainerControl, context: CallbackContext): void {
    this.draw(state, context);
    if (this.live) this.screen.write("\n");
    this.live = false;
  }

  /** Takes the bar off the screen; for a run that ends by an error. */
  close(): void {
    this.clear();
    this.live = false;
  }

  private clear(): void {
    if (this.live) this.screen.write("\r\x1b[K");
  }

  private drawNowAndThen(state: TrainerState, context: CallbackContext): void {
    if (this.now() - this.drawnAt >= REDRAW_EVERY_MS) this.draw(state, context);
  }

  private draw(state: TrainerState, context: CallbackContext): void {
    if (!this.live) return;
    this.drawnAt = this.now();
    this.screen.write(`\r\x1b[K${this.line(state, context, (this.screen.columns ?? 80) - 1)}`);
  }

  /** At most `width` characters: a line that wraps could not be drawn over. */
  private line(state: TrainerState, context: CallbackContext, width: number): string {
    const { global_step: step, max_steps: total } = state;
    const loss = known(context.loss) ?? this.last.loss;
    const rate = known(context.learningRate) ?? this.last.learning_rate;
    const parts = [`${step}/${total}`, `epoch ${state.epoch.toFixed(2)}/${state.num_train_epochs}`];
    if (loss !== undefined) parts.push(`loss ${formatNumber(loss)}`);
    if (rate !== undefined) parts.push(`lr ${formatNumber(rate)}`);
    if (context.peakDeviceMemory !== undefined) parts.push(`${(context.peakDeviceMemory / 2 ** 30).toFixed(1)} GiB`);
    if (context.overflows) parts.push(`${context.overflows} overflowed`);
    if (context.tokensPerSecond !== undefined) parts.push(`${Math.round(context.tokensPerSecond)} tokens/s`);
    if (this.evaluating) parts.push(this.evaluating);
    const done = step - this.firstStep;
    if (done > 0 && step < total) {
      const secondsPerStep = (this.now() - this.startedAt) / 1000 / done;
      parts.push(`${formatDuration(secondsPerStep * (total - step))} left`);
    }
    const text = parts.join("  ");
    const share = total > 0 ? Math.min(1, step / total) : 0;
    const head = `${String(Math.floor(100 * share)).padStart(3)}%`;
    const room = Math.min(WIDEST_BAR, width - head.length - text.length - 5);
    const filled = Math.round(room * share);
    const bar = room < NARROWEST_BAR ? "" : ` [${"#".repeat(filled)}${".".repeat(room - filled)}]`;
    return `${head}${bar}  ${text}`.slice(0, Math.max(0, width));
  }
}

/** NaN stands for a figure that there is not yet: a loss that is NaN ends the run. */
const known = (value: number | undefined) => (Number.isNaN(value) ? undefined : value);

/** A log entry as the Trainer prints it, without `total_flos`. */
export function formatLog(logs: Readonly<LogEntry>): string {
  const shown = Object.entries(logs).filter(([name]) => name !== "total_flos");
  return `{${shown.map(([name, value]) => `'${name}': ${formatNumber(value)}`).join(", ")}}`;
}

/** Python's `.4g` for fractions, whole numbers in full. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Number.isInteger(value)) return String(value);
  const [mantissa = "", power = ""] = value.toExponential(3).split("e");
  const exponent = Number(power);
  const trim = (digits: string) => (digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits);
  if (exponent >= -4 && exponent < 4) return trim(value.toFixed(3 - exponent));
  return `${trim(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** 75 → "1:15", 3725 → "1:02:05". */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
