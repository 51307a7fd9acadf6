import { mkdtempSync, readdirSync, rmSync, truncateSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { keepOnly, rotate, writeCheckpoint } from "./checkpoints.js";

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-rotate-"));
  for (const step of [2, 4, 10, 6, 8]) {
    await writeCheckpoint(folder, step, (aside) => writeFile(join(aside, "weights"), String(step)));
  }
});
afterEach(() => rmSync(folder, { recursive: true }));

const left = () =>
  readdirSync(folder)
    .map((name) => Number(name.split("-")[1]))
    .sort((a, b) => a - b);

describe("save_total_limit", () => {
  it.each<[number | null, number | undefined, number[]]>([
    [null, 2, [2, 4, 6, 8, 10]],
    [9, undefined, [2, 4, 6, 8, 10]],
    [2, undefined, [8, 10]],
    [1, undefined, [10]],
    // The best and the newest stay, whatever the limit.
    [3, 2, [2, 8, 10]],
    [2, 2, [2, 10]],
    [1, 2, [2, 10]],
    [2, 10, [8, 10]],
    [1, 10, [10]],
  ])("%s with best %s keeps %j", async (limit, best, expected) => {
    await rotate(folder, 10, limit, best === undefined ? null : join(folder, `checkpoint-${best}`));
    expect(left()).toEqual(expected);
  });

  it("counts checkpoints of later updates as the oldest: the run went on from before them", async () => {
    await rotate(folder, 6, 2, join(folder, "checkpoint-4"));
    expect(left()).toEqual([4, 6]);
  });

  it("leaves damaged checkpoints to the person, and does not count them", async () => {
    truncateSync(join(folder, "checkpoint-2", "weights"));
    rmSync(join(folder, "checkpoint-4", "manifest.json"));
    await rotate(folder, 10, 1, null, new Set([join(folder, "checkpoint-8")]));
    expect(left()).toEqual([2, 4, 8, 10]);
    await writeCheckpoint(folder, 12, (aside) => writeFile(join(aside, "weights"), "12"));
    await rotate(folder, 12, 2, null, new Set([join(folder, "checkpoint-8")]));
    expect(left()).toEqual([2, 4, 8, 10, 12]);
    await keepOnly(folder, join(folder, "checkpoint-12"), new Set([join(folder, "checkpoint-8")]));
    expect(left()).toEqual([2, 4, 8, 12]);
  });

  it("1 leaves only the best at the end", async () => {
    await keepOnly(folder, join(folder, "checkpoint-4"));
    expect(left()).toEqual([4]);
  });
});
