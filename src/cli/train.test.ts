import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { argumentsHelp } from "./arguments-help.js";
import { resumeCommand, runTrain } from "./train.js";

describe("resumeCommand", () => {
  it.each([
    [["config.yaml"], "npx slimtune train config.yaml --resume_from_checkpoint true"],
    [
      ["a.yaml", "--bf16", "--max_steps=3"],
      "npx slimtune train a.yaml --bf16 --max_steps=3 --resume_from_checkpoint true",
    ],
    [["a.yaml", "--resume_from_checkpoint", "x"], "npx slimtune train a.yaml --resume_from_checkpoint true"],
    [["--resume-from-checkpoint=x", "a.yaml"], "npx slimtune train a.yaml --resume_from_checkpoint true"],
    [
      ["--resume_from_checkpoint", "--bf16", "a.yaml"],
      "npx slimtune train --bf16 a.yaml --resume_from_checkpoint true",
    ],
    [["a.yaml", "--overwrite_output_dir", "--bf16"], "npx slimtune train a.yaml --bf16 --resume_from_checkpoint true"],
    [["--overwrite-output-dir", "a.yaml"], "npx slimtune train a.yaml --resume_from_checkpoint true"],
    [
      ["my run.yaml", "--output_dir", "it's"],
      `npx slimtune train 'my run.yaml' --output_dir 'it'\\''s' --resume_from_checkpoint true`,
    ],
  ])("%j", (words, command) => expect(resumeCommand(words)).toBe(command));
});

describe("argumentsHelp", () => {
  it.each([64, 80, 120])("keeps to %s columns", (width) => {
    for (const line of argumentsHelp(width).split("\n")) expect(line.length, line).toBeLessThanOrEqual(width);
  });
});

describe("runTrain", () => {
  const outcome = { train: async (): Promise<object> => ({}), stopped: 0, config: {} as Record<string, unknown> };
  let folder: string;
  let told = "";

  beforeEach(() => {
    told = "";
    outcome.stopped = 0;
    vi.doMock("../train/trainer.js", () => ({
      Trainer: class {
        readonly args = { output_dir: "out" };
        constructor(config: Record<string, unknown>) {
          outcome.config = config;
        }
        train = () => outcome.train();
        requestStop = () => {
          outcome.stopped++;
        };
      },
    }));
    vi.spyOn(process.stderr, "write").mockImplementation((text: unknown, written: unknown) => {
      told += text;
      if (typeof written === "function") written();
      return true;
    });
    folder = mkdtempSync(join(tmpdir(), "slimtune-train-"));
    const args = "training_args: {output_dir: out}";
    writeFileSync(join(folder, "config.yaml"), `model: org/model\ndataset: org/data\n${args}\n`);
  });

  afterEach(() => {
    vi.restoreAllMocks();
    vi.doUnmock("../train/trainer.js");
    rmSync(folder, { recursive: true });
  });

  it("gives the trainer the config and a progress bar, and exits with 0", async () => {
    outcome.train = async () => ({ interrupted: false });
    expect(await runTrain([join(folder, "config.yaml"), "--max_steps", "7"])).toBe(0);
    expect(outcome.config).toMatchObject({ model: "org/model", dataset: "org/data", training_args: { max_steps: 7 } });
    expect(outcome.config.callbacks).toHaveLength(1);
    expect(told).toBe("Try it:\n  npx slimtune generate out --prompt Hello\n");
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("stops at %s, says how to go on and exits with %s", async (signal, code) => {
    const others = process.listeners(signal); // the test runner's own
    for (const listener of others) process.off(signal, listener);
    outcome.train = async () => {
      process.emit(signal);
      return { interrupted: true, checkpoint: "out/checkpoint-3" };
    };
    const config = join(folder, "config.yaml");
    expect(await runTrain([config])).toBe(code);
    expect(process.listeners(signal)).toEqual([]);
    for (const listener of others) process.on(signal, listener);
    expect(outcome.stopped).toBe(1);
    expect(told).toMatch(/Finishing this step and saving a checkpoint; interrupt again to quit at once/);
    expect(told).toContain(`To go on:\n  npx slimtune train ${config} --resume_from_checkpoint true`);
  });

  it("passes an error on and lets go of the signals", async () => {
    outcome.train = async () => {
      throw new Error("broken");
    };
    const before = process.listenerCount("SIGINT");
    await expect(runTrain([join(folder, "config.yaml")])).rejects.toThrow("broken");
    expect(process.listenerCount("SIGINT")).toBe(before);
  });
});
