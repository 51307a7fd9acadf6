import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { describeReport, loadExamples } from "./examples.js";

const modelFolder = fileURLToPath(new URL("../../tests/fixtures/tiny-llama", import.meta.url));
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-examples-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function load(rows: readonly object[], args: TrainingArgumentsInput) {
  const file = join(folder, "rows.jsonl");
  writeFileSync(file, rows.map((row) => JSON.stringify(row)).join("\n"));
  const given = new TrainingArguments(args);
  return loadExamples(file, { modelFolder, maxPositions: 256, vocabSize: 384 }, given, given.packing);
}

describe("packed rows in which nothing is learned", () => {
  const long = { prompt: "abcdefgh".repeat(6), completion: "x" };
  const good = { prompt: "a", completion: "b" };

  it("are kept in their place, and told", async () => {
    const { examples, report } = await load([good, long, long], { packing: true, max_length: 16 });
    expect(examples.map(({ labels }) => labels.some((label) => label !== -100))).toEqual([false, false, true]);
    expect(describeReport(report)).toContain(
      "2 packed rows have no token to predict; as in TRL they are kept, and an update of them alone learns nothing",
    );
  });

  it("are refused when there are no others", async () => {
    await expect(load([long, long], { packing: true, max_length: 16 })).rejects.toThrow(
      "packing: cut to max_length 16, no example has a token that gives a loss. Raise max_length",
    );
  });
});
