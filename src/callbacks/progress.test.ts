import { describe, expect, it } from "vitest";
import { TrainingArguments } from "../arguments/index.js";
import { newTrainerState } from "../runFolder/state.js";
import { newTrainerControl } from "./callbacks.js";
import { formatDuration, formatLog, formatNumber, ProgressCallback } from "./progress.js";

function run(options: { columns?: number; tty?: boolean; disable_tqdm?: boolean }) {
  let screen = "";
  let lines = "";
  let time = 0;
  const progress = new ProgressCallback({
    screen: { write: (text) => (screen += text), isTTY: options.tty ?? true, columns: options.columns ?? 120 },
    lines: { write: (text) => (lines += text) },
    now: () => time,
  });
  const args = new TrainingArguments({ disable_tqdm: options.disable_tqdm ?? null });
  const state = newTrainerState(args, { max_steps: 10, num_train_epochs: 2, train_batch_size: 1 });
  const control = newTrainerControl();
  return {
    progress,
    state,
    screen: () => screen,
    lines: () => lines,
    begin: () => progress.onTrainBegin(args, state, control, {}),
    step: (context = {}) => {
      state.global_step++;
      state.epoch = state.global_step / 5;
      time += 2000;
      progress.onStepEnd(args, state, control, context);
    },
    substep: (ms: number) => {
      time += ms;
      progress.onSubstepEnd(args, state, control, {});
    },
    evaluate: (batch: number, batches: number) => {
      time += 2000;
      progress.onPredictionStep(args, state, control, { batch, batches });
    },
    log: (logs: Record<string, number>) => progress.onLog(args, state, control, { logs }),
    end: () => progress.onTrainEnd(args, state, control, {}),
  };
}

/** What stands on the screen's last line. */
const lastLine = (screen: string) => screen.split("\r\x1b[K").at(-1)!;

describe("ProgressCallback", () => {
  it("draws step, epoch, loss, learning rate, speed and time left on a terminal", () => {
    const { begin, step, screen } = run({});
    begin();
    step({ loss: 2.34567, learningRate: 1.5e-5, tokensPerSecond: 312.4 });
    const expected = ` 10% [###...........................]  1/10  epoch 0.20/2  loss 2.346  lr 1.5e-05  312 tokens/s  0:18 left`;
    expect(lastLine(screen())).toBe(expected);
  });

  it("shows loss and learning rate of the last log entry where the loop gives none", () => {
    const { begin, step, log, screen } = run({});
    begin();
    log({ loss: 3.5, learning_rate: 0.0002 });
    step();
    expect(lastLine(screen())).toContain("loss 3.5  lr 0.0002");
  });

  it("shows how far an evaluation is, until its entry is logged", () => {
    const { begin, step, evaluate, log, screen, lines } = run({});
    begin();
    step();
    evaluate(3, 10);
    expect(lastLine(screen())).toMatch(/1\/10 .* evaluating 3\/10/);
    log({ eval_loss: 2.5 });
    expect(lines()).toBe("{'eval_loss': 2.5}\n");
    expect(lastLine(screen())).not.toContain("evaluating");
  });

  it("leaves out what there is not yet", () => {
    const { begin, step, screen } = run({});
    begin();
    step({ loss: Number.NaN, learningRate: Number.NaN });
    expect(lastLine(screen())).toContain("epoch 0.20/2  0:18 left");
  });

  it.each([1, 5, 20, 40, 79, 80, 200])("never fills a terminal of %s columns", (columns) => {
    const { begin, step, screen } = run({ columns });
    begin();
    for (let i = 0; i < 10; i++) step({ loss: 2.34567, learningRate: 1.5e-5, tokensPerSecond: 312.4 });
    for (const line of screen().split("\r\x1b[K")) expect(line.length).toBeLessThan(Math.max(1, columns));
  });

  it("writes log entries above the bar", () => {
    const { begin, step, log, screen, lines } = run({});
    begin();
    step();
    const before = screen().length;
    log({ loss: 2, epoch: 0.2 });
    expect(lines()).toBe("{'loss': 2, 'epoch': 0.2}\n");
    // The bar was taken off for the line and drawn again.
    expect(screen().slice(before).startsWith("\r\x1b[K\r\x1b[K 10% ")).toBe(true);
  });

  it("does not draw more often than ten times a second", () => {
    const { begin, substep, screen } = run({});
    begin();
    const before = screen().length;
    substep(60);
    expect(screen().length).toBe(before);
    substep(60);
    expect(screen().length).toBeGreaterThan(before);
  });

  it("leaves the finished bar and a fresh line", () => {
    const { begin, step, end, screen } = run({});
    begin();
    for (let i = 0; i < 10; i++) step();
    end();
    expect(lastLine(screen())).toMatch(/^100% \[#{30}\] {2}10\/10 {2}epoch 2.00\/2\n$/);
  });

  it("takes the bar off when a run ends by an error", () => {
    const { begin, progress, screen } = run({});
    begin();
    progress.close();
    expect(screen().endsWith("\r\x1b[K")).toBe(true);
    const before = screen().length;
    progress.close();
    expect(screen().length).toBe(before);
  });

  it("reckons the time left of a resumed run from its own steps", () => {
    const { begin, step, state, screen } = run({});
    state.global_step = 7;
    begin();
    step();
    expect(lastLine(screen())).toContain("8/10");
    expect(lastLine(screen())).toContain("0:04 left");
  });

  it.each([{ tty: false }, { disable_tqdm: true }])("writes log lines only with %j", (options) => {
    const { begin, step, log, end, screen, lines } = run(options);
    begin();
    step();
    log({ loss: 2.123456, learning_rate: 5e-5, epoch: 0.2 });
    end();
    expect(screen()).toBe("");
    expect(lines()).toBe("{'loss': 2.123, 'learning_rate': 5e-05, 'epoch': 0.2}\n");
  });
});

describe("formatLog", () => {
  it("leaves total_flos out", () => {
    expect(formatLog({ train_loss: 1.5, total_flos: 1e15 })).toBe("{'train_loss': 1.5}");
  });
});

// f"{value:.4g}" of Python 3
describe("formatNumber", () => {
  it.each([
    [2.34567, "2.346"],
    [0.00012345678, "0.0001235"],
    [0.000099999, "0.0001"],
    [0.0000999949, "9.999e-05"],
    [2e-5, "2e-05"],
    [1234.56, "1235"],
    [12345.6, "1.235e+04"],
    [9999.9, "1e+04"],
    [0.5, "0.5"],
    [-0.25, "-0.25"],
    [1e-300, "1e-300"],
    [0, "0"],
    [250, "250"],
    [Number.NaN, "nan"],
    [Number.POSITIVE_INFINITY, "inf"],
    [Number.NEGATIVE_INFINITY, "-inf"],
  ])("%s is %s", (value, text) => expect(formatNumber(value)).toBe(text));
});

describe("formatDuration", () => {
  it.each([
    [0, "0:00"],
    [59.6, "1:00"],
    [75, "1:15"],
    [3725, "1:02:05"],
  ])("%s s is %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));
});
