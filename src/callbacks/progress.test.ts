import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { TrainingArguments } from "../arguments/index.js";
import { newTrainerState } from "../runFolder/state.js";
import { newTrainerControl } from "./callbacks.js";
import type { LogFormat } from "./logLines.js";
import { ProgressCallback } from "./progress.js";

beforeEach(() => {
  vi.stubEnv("TERM", "xterm");
  vi.stubEnv("FORCE_COLOR", "0");
});
afterEach(() => vi.unstubAllEnvs());

interface Options {
  columns?: number;
  tty?: boolean;
  linesTTY?: boolean;
  disable_tqdm?: boolean;
  format?: LogFormat;
}

function run(options: Options) {
  let screen = "";
  let lines = "";
  let time = 0;
  const progress = new ProgressCallback({
    screen: { write: (text) => (screen += text), isTTY: options.tty ?? true, columns: options.columns ?? 120 },
    lines: { write: (text) => (lines += text), isTTY: options.linesTTY, columns: options.columns ?? 120 },
    format: options.format,
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
    log: (logs: Record<string, number>) => progress.onLog(args, state, control, { logs, tokensPerSecond: 1134 }),
    end: () => progress.onTrainEnd(),
  };
}

/** What stands on the screen's last line. */
const lastLine = (screen: string) => screen.split("\r\x1b[K").at(-1)!;

describe("ProgressCallback", () => {
  it("draws step, epoch, loss, learning rate, speed and time left on a terminal", () => {
    const { begin, step, screen } = run({});
    begin();
    step({ loss: 2.34567, learningRate: 1.5e-5, tokensPerSecond: 312.4 });
    const expected = ` 10% ━━━─────────────────────────── 1/10 · epoch 0.20/2 · loss 2.3457 · lr 1.50e-5 · 312 tok/s · 0:18 left`;
    expect(lastLine(screen())).toBe(expected);
  });

  it("shows loss and learning rate of the last log entry where the loop gives none", () => {
    const { begin, step, log, screen } = run({});
    begin();
    log({ loss: 3.5, learning_rate: 0.0002 });
    step();
    expect(lastLine(screen())).toContain("loss 3.5000 · lr 2.00e-4");
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
    expect(lastLine(screen())).toContain("epoch 0.20/2 · 0:18 left");
  });

  it.each([1, 5, 20, 40, 60, 79, 80, 140, 200])("never fills a terminal of %s columns", (columns) => {
    const { begin, step, screen } = run({ columns });
    begin();
    for (let i = 0; i < 10; i++) step({ loss: 2.34567, learningRate: 1.5e-5, tokensPerSecond: 312.4 });
    for (const line of screen().split("\r\x1b[K")) expect(line.length).toBeLessThan(Math.max(1, columns));
  });

  it.each([
    [60, " 10% ━━─────────────────── 1/10 · loss 2.3457 · 0:18 left"],
    [80, " 10% ━──────────── 1/10 · epoch 0.20/2 · loss 2.3457 · 1.1k tok/s · 0:18 left"],
    [
      140,
      " 10% ━━━─────────────────────────── 1/10 · epoch 0.20/2 · loss 2.3457 · lr 1.50e-5 · 1.1k tok/s · 0:18 left",
    ],
  ])("has a bar at %s columns, and leaves out what matters least", (columns, expected) => {
    const { begin, step, screen } = run({ columns });
    begin();
    step({ loss: 2.34567, learningRate: 1.5e-5, tokensPerSecond: 1134 });
    expect(lastLine(screen())).toBe(expected);
  });

  it("writes log entries for people on a terminal, one below the other", () => {
    const { begin, step, log, lines } = run({ linesTTY: true });
    begin();
    step();
    log({ loss: 0.48131, grad_norm: 0.7249, learning_rate: 1.97e-3, epoch: 0.2 });
    log({ eval_loss: 0.51, eval_mine: 3, eval_runtime: 1.25, eval_samples_per_second: 4, epoch: 0.2 });
    log({ train_runtime: 20, train_loss: 0.5, epoch: 0.2 });
    expect(lines().split("\n")).toEqual([
      "step  1/10 · epoch 0.20 · loss 0.4813 · lr 1.97e-3 · grad 0.72 · 1.1k tok/s",
      "eval  1/10 · epoch 0.20 · loss 0.5100 · mine 3 · 1.3 s",
      "",
    ]);
  });

  it("breaks them between two figures where they do not fit", () => {
    const { begin, step, log, lines } = run({ linesTTY: true, columns: 60 });
    begin();
    step();
    log({ loss: 0.48131, grad_norm: 0.7249, learning_rate: 1.97e-3, epoch: 0.2 });
    expect(lines()).toBe("step  1/10 · epoch 0.20 · loss 0.4813 · lr 1.97e-3 ·\n     grad 0.72 · 1.1k tok/s\n");
  });

  it("has the format that was asked for, wherever it goes", () => {
    const { begin, step, log, lines } = run({ linesTTY: true, format: "json" });
    begin();
    step();
    log({ loss: 0.48131, epoch: 0.2 });
    expect(lines()).toBe('{"step":1,"loss":0.48131,"epoch":0.2}\n');
    const other = run({ format: "text" });
    other.begin();
    other.log({ loss: 0.48131, learning_rate: 1e-3, epoch: 0 });
    expect(other.lines()).toBe("step  0/10 · epoch 0.00 · loss 0.4813 · lr 1.00e-3 · 1.1k tok/s\n");
  });

  it("draws no bar on a terminal that cannot take a line back", () => {
    vi.stubEnv("TERM", "dumb");
    const { begin, step, end, screen } = run({});
    begin();
    step();
    end();
    expect(screen()).toBe("");
  });

  it("writes log entries above the bar", () => {
    const { begin, step, log, screen, lines } = run({});
    begin();
    step();
    const before = screen().length;
    log({ loss: 2, epoch: 0.2 });
    expect(lines()).toBe("{'loss': 2, 'epoch': 0.2}\n");
    // The bar was taken off for the line and drawn again.
    expect(screen().slice(before).split("\r\x1b[K")).toEqual([
      "",
      expect.stringContaining("10%"),
      expect.stringContaining("10%"),
    ]);
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

  it("leaves nothing of the bar at the end: what follows says how it went", () => {
    const { begin, step, end, screen } = run({});
    begin();
    for (let i = 0; i < 10; i++) step();
    end();
    expect(screen().endsWith("\r\x1b[K")).toBe(true);
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
