/** `profile`: a real run's trace and table. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { attribute, CATEGORIES, innermost } from "../src/callbacks/profile/attribute.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyTrainer } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

describe("the timeline of a thread", () => {
  it("gives each moment to the innermost span", () => {
    const spans = [
      { name: "outer", begin: 0, end: 10 },
      { name: "first", begin: 1, end: 4 },
      { name: "deep", begin: 2, end: 3 },
      { name: "second", begin: 4, end: 6 },
      { name: "after", begin: 12, end: 13 },
    ];
    expect(innermost(spans).map(({ name, begin, end }) => `${name} ${begin}-${end}`)).toEqual([
      "outer 0-1",
      "first 1-2",
      "deep 2-3",
      "first 3-4",
      "second 4-6",
      "outer 6-10",
      "after 12-13",
    ]);
  });

  it("gives idle time to what JavaScript did then, and gaps to the engine", () => {
    const engine = [
      { name: "aten::mm", begin: 0, end: 40 },
      { name: "idle", begin: 50, end: 90 },
    ];
    const javascript = [{ name: "data", begin: 30, end: 60 }];
    const [times] = attribute(engine, javascript, [{ name: "update 1", begin: 10, end: 100 }]);
    expect(times).toMatchObject({ GEMM: 30, data: 10, idle: 30, engine: 20, JavaScript: 0 });
  });
});

it("a run's profile adds up to its updates, and is a Chrome trace", async () => {
  const folder = newFolder();
  const profile = join(folder, "trace.json");
  const lines: string[] = [];
  const args = { max_steps: 3, per_device_train_batch_size: 2, gradient_accumulation_steps: 2 };
  const trainer = tinyTrainer(join(folder, "run"), args, { lora: TINY_LORA, profile, log: (line) => lines.push(line) });
  await trainer.train();
  const { traceEvents, otherData } = JSON.parse(readFileSync(profile, "utf8"));
  const complete = traceEvents.filter(({ ph }: { ph: string }) => ph === "X");
  expect(complete.every(({ ts, dur, name }: never) => ts >= 0 && dur >= 0 && name !== "")).toBe(true);
  const updates = complete.filter(({ tid }: { tid: number }) => tid === -1);
  expect(updates).toHaveLength(3);
  for (const [i, seconds] of otherData.seconds_per_update.entries()) {
    expect(Object.keys(seconds)).toEqual([...CATEGORIES]);
    const sum = Object.values<number>(seconds).reduce((total, one) => total + one, 0);
    expect(Math.abs(sum - updates[i].dur / 1e6)).toBeLessThan(0.05 * sum);
    expect(seconds.GEMM).toBeGreaterThan(0);
    expect(seconds.attention).toBeGreaterThan(0);
    expect(seconds.optimizer).toBeGreaterThan(0);
  }
  expect(lines.join("\n")).toMatch(/Profile {5}[\d.]+ s per update[\s\S]*GEMM[\s\S]*aten::(?:mm|addmm)/);
});
