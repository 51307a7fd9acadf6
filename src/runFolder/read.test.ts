import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { thisProcess } from "../support/process.js";
import { listRuns, readMetrics, readRun, readTrainerState } from "./read.js";
import { RecordWriter, type RunStart } from "./record.js";
import { StatusWriter } from "./status.js";

const newFolder = temporaryFolders();
const start = (step = 0): RunStart => ({
  time: "2026-01-01T00:00:00.000Z",
  step,
  pid: 1,
  host: "here",
  command: ["slimtune"],
  versions: { node: "20" },
  machine: { platform: "linux", arch: "x64", cpu: "", cores: 1, memory: 1 },
});
const config = (learning_rate: number) => ({ model: "m", training_args: { learning_rate, max_steps: -1 } });

describe("run.json", () => {
  it("keeps starts and changes across resumes; an argument that the config changes replaces what was set", async () => {
    const folder = newFolder();
    const writer = await RecordWriter.start(folder, config(1), start(), false);
    const change = (step: number, name: "learning_rate" | "max_steps", to: number) =>
      ({ id: String(step), time: "", step, name, from: null, to }) as const;
    await writer.changed([change(3, "learning_rate", 2), change(3, "max_steps", 9)]);
    await writer.changed([change(5, "max_steps", 12)]);

    const same = await RecordWriter.start(folder, config(1), start(4), true);
    expect(same.record.id).toBe(writer.record.id);
    expect(same.record.starts.map(({ step }) => step)).toEqual([0, 4]);
    expect(same.record.changes.map(({ to }) => to)).toEqual([2, 9, 12]);
    await same.changed([change(4, "max_steps", 7)]); // before update 5: the earlier way is left
    expect(same.record.changes.map(({ to }) => to)).toEqual([2, 9, 7]);

    const other = await RecordWriter.start(folder, config(8), start(4), true);
    expect(other.record.changes.map(({ name }) => name)).toEqual(["max_steps", "max_steps"]);
    const fresh = await RecordWriter.start(folder, config(8), start(), false);
    expect(fresh.record.id).not.toBe(writer.record.id);
    expect(fresh.record.changes).toEqual([]);
    await fresh.takeBack();
    expect((await readRun(folder))!.record!.id).toBe(writer.record.id);
  });
});

describe("readRun", () => {
  it("gives what can be read of half written, foreign and hostile folders", async () => {
    const folder = newFolder();
    expect(await readRun(folder)).toBeUndefined();
    expect(await readRun(join(folder, "none"))).toBeUndefined();
    writeFileSync(join(folder, "run.json"), '{"format": 1, "id": "a", ');
    expect(await readRun(folder)).toEqual({ folder, record: undefined, status: undefined, phase: undefined });
    writeFileSync(join(folder, "run.json"), '{"format": 99}');
    writeFileSync(join(folder, "status.json"), "[]");
    expect(await readRun(folder)).toMatchObject({ record: undefined, status: undefined });
    const python = newFolder();
    writeFileSync(join(python, "trainer_state.json"), '{"global_step": 3}');
    expect(await readRun(python)).toMatchObject({ record: undefined, phase: undefined });
    expect(await readTrainerState(python)).toBeUndefined();
  });

  it("reads metrics line by line, and passes over what are no entries", async () => {
    const folder = newFolder();
    const lines = ['{"step":1,"loss":2}', '{"step":1,"control":{"do":"save"},"time":1}', "", "null", '{"step":2,"lo'];
    writeFileSync(join(folder, "metrics.jsonl"), lines.join("\n"));
    const entries = [];
    for await (const entry of readMetrics(folder)) entries.push(entry);
    expect(entries).toEqual([{ step: 1, loss: 2 }]);
    for await (const _ of readMetrics(join(folder, "none"))) throw new Error("there is none");
  });
});

describe("listRuns", () => {
  it("finds runs below a folder, and looks into no checkpoint", async () => {
    const root = newFolder();
    for (const name of ["a", "group/b", "c"]) {
      mkdirSync(join(root, name), { recursive: true });
      await RecordWriter.start(join(root, name), config(1), start(), false);
    }
    mkdirSync(join(root, "a", "checkpoint-3"));
    writeFileSync(join(root, "a", "checkpoint-3", "trainer_state.json"), "{}");
    mkdirSync(join(root, "notes"));
    const status = await StatusWriter.open(join(root, "c"), "id", () => {});
    await status.end({ phase: "interrupted" });
    const runs = await listRuns(root);
    expect(runs.map(({ folder, phase }) => [folder, phase])).toEqual([
      [join(root, "a"), undefined],
      [join(root, "c"), "interrupted"],
      [join(root, "group", "b"), undefined],
    ]);
    expect(await listRuns(join(root, "none"))).toEqual([]);
  });

  it("lists 2,000 runs", async () => {
    const root = newFolder();
    const text = JSON.stringify({
      format: 1,
      id: "x",
      started: "",
      config: {},
      plan: null,
      starts: [start()],
      changes: [],
    });
    const { pid, host, started } = thisProcess();
    const status = {
      format: 1,
      run: "x",
      pid,
      host,
      started,
      updated: "",
      phase: "training",
      step: 1,
      max_steps: 2,
      epoch: 0,
      loss: null,
      learning_rate: null,
      tokens_per_second: null,
      seconds_left: null,
      memory: { resident: 1 },
      checkpoint: null,
      error: null,
      answers: [],
    };
    for (let i = 0; i < 2_000; i++) {
      const folder = join(root, `group-${i % 100}`, `run-${i}`);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, "run.json"), text);
      writeFileSync(join(folder, "status.json"), JSON.stringify(status));
    }
    const runs = await listRuns(root);
    expect(runs).toHaveLength(2_000);
    expect(runs.every(({ phase }) => phase === "training")).toBe(true);
  });
});
