/** What a run looks like on terminals of 60, 80 and 140 columns. */
import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { newTrainerControl } from "../src/callbacks/callbacks.js";
import { ProgressCallback } from "../src/callbacks/progress.js";
import { TrainingArguments } from "../src/index.js";
import { newTrainerState } from "../src/runFolder/state.js";
import { Screen } from "../src/support/terminal.js";
import { describeEnd } from "../src/train/ending.js";
import { environment, MAIN, writeConfig } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
const here = process.cwd();
const WIDTHS = [60, 80, 140];

/** The lines that a terminal shows after what was written to it: a line that is drawn again has its last text. */
function screenAfter(written: string): string[] {
  const lines = written.replaceAll("\r\n", "\n").split("\n");
  return lines.map((line) => line.split("\r\x1b[K").at(-1)!);
}

beforeEach(() => {
  vi.stubEnv("TERM", "xterm-256color");
  vi.stubEnv("FORCE_COLOR", "0");
});
afterEach(() => {
  vi.unstubAllEnvs();
  process.chdir(here);
});

/** The summary of a run of its own; it holds no measured figure. */
async function summary(): Promise<string[]> {
  process.chdir(newFolder());
  cpSync(fixturePath("tiny-llama"), "model", { recursive: true });
  const lines: string[] = [];
  const args = { max_steps: 1, learning_rate: 5e-5, num_train_epochs: 3 };
  await tinyTrainer("runs/1", args, { model: join(process.cwd(), "model"), log: (line) => lines.push(line) }).train();
  return lines.slice(
    0,
    lines.findIndex((line) => line.startsWith("Finished")),
  );
}

function show(columns: number, before: readonly string[]): string[] {
  let written = "";
  let time = 0;
  const write = (text: string) => {
    written += text;
  };
  const terminal = { write, isTTY: true, columns };
  const screen = new Screen(terminal);
  const progress = new ProgressCallback({ screen, lines: terminal, now: () => time });
  const args = new TrainingArguments({ num_train_epochs: 3 });
  const state = newTrainerState(args, { max_steps: 1125, num_train_epochs: 3, train_batch_size: 8 });
  const control = newTrainerControl();
  const context = { loss: 0.4813, learningRate: 1.97e-3, tokensPerSecond: 1134 };
  for (const line of before) screen.say(line);
  progress.onTrainBegin(args, state, control, {});
  state.global_step = 20;
  state.epoch = 20 / 375;
  time = 8000;
  const logs = { loss: 0.4813, grad_norm: 0.7249, learning_rate: 1.97e-3, epoch: state.epoch };
  progress.onLog(args, state, control, { ...context, logs });
  state.global_step = 1000;
  state.epoch = 1000 / 375;
  time = 400_000;
  progress.onLog(args, state, control, { ...context, logs: { ...logs, epoch: state.epoch } });
  const evaluated = { eval_loss: 0.51, eval_perplexity: 1.6653, eval_mean_token_accuracy: 0.8412, eval_runtime: 2.4 };
  progress.onLog(args, state, control, { ...context, logs: { ...evaluated, epoch: state.epoch } });
  screen.say("Best: eval_loss 0.51 at update 1000; the result has the weights of runs/1/checkpoint-1000");
  time += 1000;
  progress.onStepEnd(args, state, control, context);
  const bar = written.slice(written.lastIndexOf("\r\x1b[K") + 4);
  progress.onTrainEnd();
  const metrics = { train_runtime: 450, train_tokens_per_second: 1134 };
  const output = { global_step: 1000, training_loss: 0.6, metrics, interrupted: false };
  state.log_history = [
    { step: 20, loss: 0.4813 },
    { step: 1000, loss: 0.5 },
  ];
  const ending = { output, state, outputDir: "runs/1", result: "a PEFT adapter", from: 0, patience: 3 };
  for (const line of describeEnd(ending)) screen.say(line);
  screen.say("Try it:\n  npx slimtune generate runs/1 --prompt Hello");
  return [...screenAfter(written), "", "the bar before its end:", bar];
}

describe("a run on a terminal", () => {
  it("is laid out for its width", async () => {
    const before = await summary();
    for (const columns of WIDTHS) {
      const lines = show(columns, before);
      for (const line of lines) expect(line.length, line).toBeLessThan(columns);
      await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot(`snapshots/terminal-${columns}.txt`);
    }
  });

  it.each(WIDTHS)(
    "has nothing garbled and nothing cut at %s columns, messages in the middle of it included",
    async (columns) => {
      const home = newFolder();
      const output_dir = "out";
      const strategies = {
        eval_strategy: "steps",
        eval_steps: 5,
        save_steps: 5,
        load_best_model_at_end: true,
      } as const;
      const config = writeConfig(home, { output_dir, max_steps: 15, logging_steps: 1, ...strategies });
      const command = `stty cols ${columns}; ${process.execPath} ${MAIN} train ${config} --eval_dataset ${fixturePath("data/prompt-completion.jsonl")}`;
      // A terminal of its own, as \`script\` makes them.
      const child = spawn("script", ["-qec", command, "/dev/null"], {
        cwd: home,
        env: { ...environment(), TERM: "xterm", FORCE_COLOR: "0" },
        stdio: ["ignore", "pipe", "inherit"],
      });
      let written = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        written += text;
      });
      expect(await new Promise((resolve) => child.on("close", resolve)), written).toBe(0);
      expect(written).toContain("━");
      const lines = screenAfter(written);
      expect(lines.join("\n")).not.toMatch(/[━─]/); // the bar has gone
      expect(lines.filter((line) => /^step +\d+\/15 · epoch/.test(line))).toHaveLength(15);
      expect(lines.filter((line) => /^eval +\d+\/15 · epoch/.test(line))).toHaveLength(3);
      expect(lines.filter((line) => line.startsWith("Best: eval_loss"))).toHaveLength(1);
      expect(lines).toContain("  npx slimtune generate out --prompt Hello");
      for (const line of lines.filter((text) => text.includes(" ")))
        expect(line.startsWith("  npx") || line.length < columns || !line.trim().includes(" "), line).toBe(true);
      const drawn = written.split("\r\x1b[K").slice(1);
      for (const bar of drawn) expect(bar.split(/\r?\n/)[0]!.length, bar).toBeLessThan(columns);
    },
  );
});
