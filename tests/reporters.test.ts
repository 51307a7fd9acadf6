/** What carries the figures of a run out of it: metrics.jsonl, TensorBoard, MLflow. */
import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { crc32c } from "../src/callbacks/reporters/eventFile.js";
import { runFolderName, tagOf } from "../src/callbacks/reporters/tensorboard.js";
import type { LogEntry, TrainerConfig } from "../src/index.js";
import { mlflowServer } from "./support/mlflowServer.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const folder = temporaryFolders();
afterEach(() => {
  vi.unstubAllEnvs();
});

const lines = (path: string): LogEntry[] =>
  readFileSync(path, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
const metricsOf = (output: string) => lines(join(output, "metrics.jsonl"));
const historyOf = (output: string): LogEntry[] =>
  JSON.parse(readFileSync(join(output, "trainer_state.json"), "utf8")).log_history;
const withoutTime = ({ time: _, ...entry }: LogEntry) => entry;

describe("metrics.jsonl", () => {
  it("has every entry of log_history, as soon as it is there, with the time", async () => {
    const output = folder();
    const lengths: number[] = [];
    const begun = Date.now() / 1000;
    const onStepBegin = () => void lengths.push(metricsOf(output).length);
    await tinyTrainer(output, { max_steps: 4 }, { callbacks: [{ onStepBegin }] }).train();
    const entries = metricsOf(output);
    expect(lengths).toEqual([0, 1, 2, 3]);
    expect(entries.map(withoutTime)).toEqual(historyOf(output));
    for (const { time } of entries) expect(time).toBeGreaterThanOrEqual(begun);
  });

  it("has no entry twice after a resume, and loses none", async () => {
    const output = folder();
    const args = { max_steps: 6, save_strategy: "steps", save_steps: 2 } as const;
    await tinyTrainer(output, args).train();
    const whole = metricsOf(output);
    for (const step of [4, 6]) rmSync(join(output, `checkpoint-${step}`), { recursive: true });
    appendFileSync(join(output, "metrics.jsonl"), '{"step": 7, "lo'); // as a killed process leaves it
    await tinyTrainer(output, { ...args, resume_from_checkpoint: true }).train();
    const resumed = metricsOf(output);
    expect(resumed.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 6]);
    expect(resumed.map(withoutTime).map(({ loss }) => loss)).toEqual(whole.map(({ loss }) => loss));
    expect(resumed.slice(0, 2)).toEqual(whole.slice(0, 2)); // with their old times
  });

  it("is filled from the checkpoint where it was lost", async () => {
    const output = folder();
    const args = { max_steps: 4, save_strategy: "steps", save_steps: 2 } as const;
    await tinyTrainer(output, args).train();
    rmSync(join(output, "checkpoint-4"), { recursive: true });
    rmSync(join(output, "metrics.jsonl"));
    await tinyTrainer(output, { ...args, resume_from_checkpoint: true }).train();
    expect(metricsOf(output).map(withoutTime)).toEqual(historyOf(output));
  });

  it("does not keep a run from starting in a folder where one died before its first checkpoint", async () => {
    const output = folder();
    writeFileSync(join(output, "metrics.jsonl"), '{"step": 1, "loss": 3}\n');
    await tinyTrainer(output, { max_steps: 1 }).train();
    expect(metricsOf(output).map(withoutTime)).toEqual(historyOf(output));
  });
});

interface TensorBoardRecord {
  step: number;
  tag?: string;
  value?: number;
  message: Buffer;
}

/** Records of an event file; both checksums of each are checked. Scalars are decoded. */
function readEvents(path: string): TensorBoardRecord[] {
  const bytes = readFileSync(path);
  const records: TensorBoardRecord[] = [];
  const checked = (data: Buffer, masked: number) => {
    const rotated = (masked - 0xa282ead8) >>> 0;
    expect(crc32c(data)).toBe(((rotated >>> 17) | (rotated << 15)) >>> 0);
    return data;
  };
  for (let at = 0; at < bytes.length; ) {
    const length = Number(checked(bytes.subarray(at, at + 8), bytes.readUInt32LE(at + 8)).readBigUInt64LE());
    const message = checked(bytes.subarray(at + 12, at + 12 + length), bytes.readUInt32LE(at + 12 + length));
    at += 16 + length;
    const step = message[9] === 0x10 ? message[10]! : 0; // small steps only: one byte
    records.push({ step, message, ...scalarOf(message) });
  }
  return records;
}

/** Tag and value, where a record ends with a tag (field 1, its length, text) and a float (field 2). */
function scalarOf(message: Buffer): Pick<TensorBoardRecord, "tag" | "value"> {
  const end = message.length - 5;
  if (message[end] !== 0x15) return {};
  for (let length = 1; length < Math.min(128, end - 2); length++) {
    const start = end - length;
    if (message[start - 1] !== length || message[start - 2] !== 0x0a) continue;
    return { tag: message.toString("utf8", start, end), value: message.readFloatLE(end + 1) };
  }
  return {};
}

describe("report_to: tensorboard", () => {
  it("writes what log_history holds, and goes on in the same folder after a resume", async () => {
    const output = folder();
    const args = { max_steps: 4, save_strategy: "steps", save_steps: 2, report_to: "tensorboard" } as const;
    await tinyTrainer(output, args).train();
    const [run, ...others] = readdirSync(join(output, "runs"));
    expect(others).toEqual([]);
    expect(run).toMatch(/^[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_/);
    const files = () => readdirSync(join(output, "runs", run!)).toSorted();
    const [file] = files();
    expect(file).toMatch(/^events\.out\.tfevents\.\d+\./);
    const [version, text, ...records] = readEvents(join(output, "runs", run!, file!));
    expect(version!.message.toString()).toContain("brain.Event:2");
    expect(text!.message.toString()).toContain('"learning_rate": 0.01');
    const expected = historyOf(output).flatMap(({ step, ...entry }) =>
      Object.entries(entry).map(([name, value]) => [step, `train/${name}`, Math.fround(value)]),
    );
    expect(records.map(({ step, tag, value }) => [step, tag, value])).toEqual(expected);

    rmSync(join(output, "checkpoint-4"), { recursive: true });
    await tinyTrainer(output, { ...args, resume_from_checkpoint: true }).train();
    expect(readdirSync(join(output, "runs"))).toEqual([run]);
    const [, second] = files();
    const [, restart, next] = readEvents(join(output, "runs", run!, second!));
    expect(restart!.step).toBe(3);
    expect(restart!.tag).toBeUndefined();
    expect(next).toMatchObject({ step: 3, tag: "train/loss" });
  });

  it("goes where TENSORBOARD_LOGGING_DIR says", async () => {
    const [output, elsewhere] = [folder(), folder()];
    vi.stubEnv("TENSORBOARD_LOGGING_DIR", elsewhere);
    await tinyTrainer(output, { max_steps: 1, report_to: ["tensorboard"] }).train();
    expect(readdirSync(elsewhere)).toHaveLength(1);
    expect(readdirSync(output)).not.toContain("runs");
  });

  it("warns once where it cannot write, and the run goes on", async () => {
    const blocked = join(folder(), "file");
    writeFileSync(blocked, "");
    vi.stubEnv("TENSORBOARD_LOGGING_DIR", join(blocked, "below"));
    const log: string[] = [];
    const trainer = tinyTrainer(
      folder(),
      { max_steps: 3, report_to: "tensorboard" },
      { log: (line) => log.push(line) },
    );
    expect((await trainer.train()).global_step).toBe(3);
    expect(log.filter((line) => /report_to tensorboard: ENOTDIR.*Training goes on without it/.test(line))).toHaveLength(
      1,
    );
  });

  it("uses the Trainer's names", () => {
    expect(["loss", "eval_loss", "test_loss", "evaluation"].map(tagOf)).toEqual([
      "train/loss",
      "eval/loss",
      "test/loss",
      "train/evaluation",
    ]);
    expect(runFolderName(new Date(2026, 6, 4, 9, 5, 0))).toBe(`Jul04_09-05-00_${hostname()}`);
  });
});

describe("report_to: mlflow", () => {
  const logged = (log: string[]): Partial<TrainerConfig> => ({ log: (line) => void log.push(line) });

  it("makes a run with the arguments as parameters and every metric", async () => {
    await using server = await mlflowServer();
    vi.stubEnv("MLFLOW_TRACKING_URI", server.uri);
    vi.stubEnv("MLFLOW_EXPERIMENT_NAME", "cities");
    vi.stubEnv("MLFLOW_TAGS", '{"team": "maps"}');
    vi.stubEnv("MLFLOW_TRACKING_USERNAME", "ada");
    vi.stubEnv("MLFLOW_TRACKING_PASSWORD", "secret");
    const output = folder();
    await tinyTrainer(output, { max_steps: 3, report_to: "mlflow", run_name: "first", hub_token: "hf_x" }).train();
    expect(server.runs).toHaveLength(1);
    const [run] = server.runs;
    expect(run).toMatchObject({ experiment: "cities", run_name: "first", status: "FINISHED", tags: { team: "maps" } });
    expect(run!.params).toMatchObject({ learning_rate: "0.01", lr_scheduler_type: "linear", max_steps: "3" });
    expect(Object.keys(run!.params).length).toBeGreaterThan(100);
    expect(JSON.stringify(run)).not.toContain("hf_x");
    const expected = historyOf(output).flatMap(({ step, ...entry }) =>
      Object.entries(entry).map(([key, value]) => ({ key, value, step, timestamp: expect.any(Number) })),
    );
    expect(run!.metrics).toEqual(expected);
    expect(new Set(server.authorizations)).toEqual(new Set([`Basic ${btoa("ada:secret")}`]));
  });

  it("goes on with the run of MLFLOW_RUN_ID, and says how a run ended", async () => {
    await using server = await mlflowServer();
    vi.stubEnv("MLFLOW_TRACKING_URI", `${server.uri}/`);
    vi.stubEnv("MLFLOW_TRACKING_TOKEN", "token");
    const log: string[] = [];
    const trainer = tinyTrainer(folder(), { max_steps: 5, report_to: "all" }, logged(log));
    const events = trainer.events();
    const training = trainer.train();
    for await (const { type } of events) if (type === "step") trainer.requestStop();
    await training;
    expect(server.runs[0]).toMatchObject({ experiment: "Default", status: "KILLED" });
    expect(server.authorizations[0]).toBe("Bearer token");
    const id = /MLFLOW_RUN_ID=(\w+)/.exec(log.join("\n"))![1]!;
    vi.stubEnv("MLFLOW_RUN_ID", id);
    await tinyTrainer(folder(), { max_steps: 1, report_to: "mlflow" }).train();
    expect(server.runs).toHaveLength(1);
    expect(server.runs[0]!.status).toBe("FINISHED");
  });

  it("keeps what a server that is down misses, warns once, and sends it later", async () => {
    await using server = await mlflowServer();
    vi.stubEnv("MLFLOW_TRACKING_URI", server.uri);
    server.failWith = 503;
    const log: string[] = [];
    const output = folder();
    const onStepEnd = async (_: unknown, { global_step }: { global_step: number }) => {
      await new Promise((resolve) => setTimeout(resolve, 20)); // so that requests fail between the steps
      if (global_step === 6) server.failWith = undefined;
    };
    const trainer = tinyTrainer(
      output,
      { max_steps: 8, report_to: "mlflow" },
      { ...logged(log), callbacks: [{ onStepEnd }] },
    );
    await trainer.train();
    expect(log.filter((line) => line.startsWith("report_to mlflow"))).toEqual([
      expect.stringMatching(
        /answers 503 to experiments\/get-by-name.*Training goes on; figures are kept and sent later/,
      ),
    ]);
    expect(server.runs[0]!.metrics.filter(({ key }) => key === "loss").map(({ step }) => step)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    expect(server.runs[0]!.status).toBe("FINISHED");
  });

  it("never hurts a run, also when the server never comes back", async () => {
    const server = await mlflowServer();
    await server[Symbol.asyncDispose]();
    vi.stubEnv("MLFLOW_TRACKING_URI", server.uri);
    const log: string[] = [];
    const output = folder();
    const result = await tinyTrainer(output, { max_steps: 3, report_to: "mlflow" }, logged(log)).train();
    expect(result).toMatchObject({ global_step: 3, interrupted: false });
    const told = log.filter((line) => line.startsWith("report_to mlflow"));
    expect(told[0]).toMatch(/does not answer \(.*ECONNREFUSED.*Training goes on/);
    expect(told[1]).toMatch(/\d+ figures were not sent \(metrics.jsonl has them\)/);
    expect(told).toHaveLength(2);
    expect(metricsOf(output)).toHaveLength(4);
  });

  it("needs the address of a server", () => {
    vi.stubEnv("MLFLOW_TRACKING_URI", "");
    expect(() => tinyTrainer(folder(), { report_to: "mlflow" })).toThrow(
      /needs the environment variable MLFLOW_TRACKING_URI/,
    );
    vi.stubEnv("MLFLOW_TRACKING_URI", "./mlruns");
    expect(() => tinyTrainer(folder(), { report_to: "mlflow" })).toThrow(/it is "\.\/mlruns"/);
  });
});
