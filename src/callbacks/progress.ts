import type { TrainingArguments } from "../arguments/index.js";
import type { LogEntry, TrainerState } from "../runFolder/state.js";
import { shown } from "../support/plainText.js";
import { person, Screen, type Terminal, wrapItems } from "../support/terminal.js";
import { briefCount, briefLoss, briefRate } from "../support/words.js";
import type { CallbackContext, TrainerCallback, TrainerControl } from "./callbacks.js";
import { formatDuration, formatLog, jsonLog, type LogFormat, logItems } from "./logLines.js";

/** Where a run is shown while it trains, and how. */
export interface ProgressOptions {
  /** Where the bar is drawn; default: stderr, together with everything else that a run says there. */
  screen?: Terminal;
  /** Where log entries go; default: stdout. */
  lines?: Terminal;
  /** How they look; default: for a person on a terminal, and as the Trainer prints them elsewhere. */
  format?: LogFormat;
  now?: () => number;
}

const REDRAW_EVERY_MS = 100;
const WIDEST_BAR = 30;
const NARROWEST_BAR = 10;
/** Behind the bar there is room for the ^C that a terminal echoes: a line that it breaks cannot be drawn over. */
const KEPT_FREE = 3;

/**
 * Shows a run: one live bar on a terminal (stderr), and a line for each log entry (stdout), above the bar where both are
 * on one screen. Without a terminal, or with `disable_tqdm`, there are the lines only.
 */
export class ProgressCallback implements TrainerCallback {
  private readonly screen: Screen;
  private readonly lines: Terminal;
  private readonly format: LogFormat | undefined;
  private readonly now: () => number;
  private live = false;
  private drawnAt = Number.NEGATIVE_INFINITY;
  private startedAt = 0;
  private firstStep = 0;
  private last: LogEntry = {};
  private evaluating = "";

  constructor({ screen, lines = process.stdout, format, now = () => performance.now() }: ProgressOptions = {}) {
    this.screen = screen === undefined ? person : screen instanceof Screen ? screen : new Screen(screen);
    this.lines = lines;
    this.format = format;
    this.now = now;
  }

  onTrainBegin(args: TrainingArguments, state: TrainerState, _: TrainerControl, context: CallbackContext): void {
    this.live = this.screen.live && args.disable_tqdm !== true;
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
    args: TrainingArguments,
    state: TrainerState,
    __: TrainerControl,
    context: CallbackContext & { readonly logs: Readonly<LogEntry> },
  ): void {
    const { logs } = context;
    this.last = { ...this.last, ...logs };
    this.evaluating = "";
    const format = this.format ?? (this.lines.isTTY === true && args.disable_tqdm !== true ? "text" : "python");
    const lines =
      format === "json"
        ? [jsonLog(logs, state.global_step)]
        : format === "python"
          ? [formatLog(logs)]
          : this.forPeople(logs, state, context);
    this.screen.above(() => {
      for (const line of lines) this.lines.write(`${shown(line)}\n`);
    });
    this.draw(state, context);
  }

  onTrainEnd(): void {
    this.close();
  }

  /** Takes the bar off the screen; for a run that ends by an error. */
  close(): void {
    if (this.live) this.screen.draw("");
    this.live = false;
  }

  private forPeople(logs: Readonly<LogEntry>, state: TrainerState, { tokensPerSecond }: CallbackContext): string[] {
    const items = logItems(logs, state, tokensPerSecond);
    if (items.length === 0) return [];
    return wrapItems(items, (this.lines.columns || 80) - 1, 5);
  }

  private drawNowAndThen(state: TrainerState, context: CallbackContext): void {
    if (this.now() - this.drawnAt >= REDRAW_EVERY_MS) this.draw(state, context);
  }

  private draw(state: TrainerState, context: CallbackContext): void {
    if (!this.live) return;
    this.drawnAt = this.now();
    this.screen.draw(this.line(state, context, this.screen.columns - KEPT_FREE));
  }

  /** At most `width` characters wide, as a line that wraps could not be drawn over: what matters least is left out. */
  private line(state: TrainerState, context: CallbackContext, width: number): string {
    const { global_step: step, max_steps: total } = state;
    const share = total > 0 ? Math.min(1, step / total) : 0;
    const head = `${String(Math.floor(100 * share)).padStart(3)}%`;
    let items = this.items(state, context);
    const text = () => items.map((item) => item.text).join(" · ");
    const room = () => width - head.length - 2 - text().length;
    while (room() < NARROWEST_BAR && items.length > 1) {
      const least = Math.max(...items.map(({ rank }) => rank));
      items = items.filter(({ rank }) => rank !== least);
    }
    if (room() < NARROWEST_BAR) return `${head} ${text()}`.slice(0, Math.max(0, width));
    const cells = Math.min(WIDEST_BAR, room());
    const filled = Math.round(cells * share);
    const { green, dim } = this.screen.paint;
    return `${head} ${green("━".repeat(filled))}${dim("─".repeat(cells - filled))} ${text()}`;
  }

  /** What stands beside the bar, each with its rank: the least important has the highest. */
  private items(state: TrainerState, context: CallbackContext): { text: string; rank: number }[] {
    const { global_step: step, max_steps: total } = state;
    const loss = known(context.loss) ?? this.last.loss;
    const rate = known(context.learningRate) ?? this.last.learning_rate;
    const { tokensPerSecond: speed, peakDeviceMemory: memory, overflows } = context;
    const items = [{ text: `${step}/${total}`, rank: 0 }];
    const add = (rank: number, text: string | false | undefined) => {
      if (text) items.push({ text, rank });
    };
    add(5, `epoch ${state.epoch.toFixed(2)}/${state.num_train_epochs}`);
    add(2, loss !== undefined && `loss ${briefLoss(loss)}`);
    add(6, rate !== undefined && `lr ${briefRate(rate)}`);
    add(7, memory !== undefined && `${(memory / 2 ** 30).toFixed(1)} GiB`);
    add(8, overflows !== undefined && overflows > 0 && `${overflows} overflowed`);
    add(4, speed !== undefined && `${briefCount(speed)} tok/s`);
    add(1, this.evaluating);
    const done = step - this.firstStep;
    const seconds = ((this.now() - this.startedAt) / 1000 / done) * (total - step);
    add(3, done > 0 && step < total && `${formatDuration(seconds)} left`);
    return items;
  }
}

/** NaN stands for a figure that there is not yet: a loss that is NaN ends the run. */
const known = (value: number | undefined) => (Number.isNaN(value) ? undefined : value);
