import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TrainingArguments, type TrainingArgumentsInput } from "../arguments/index.js";
import { describeReport, loadExamples } from "./examples.js";
import { loadRows } from "./read.js";

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
  return loadExamples(
    () => loadRows(file, given),
    { modelFolder, maxPositions: 256, vocabSize: 384 },
    given,
    given.packing,
  );
}

describe("the report", () => {
  it("tells of texts without an end, and of roles that are not usual", async () => {
    const texts = await load([{ body: "a b" }, { body: "c d" }], { dataset_text_field: "body" });
    expect(describeReport(texts.report)).toEqual([
      '2 of 2 rows are texts of another column than "text": as in TRL, no end-of-sequence token was added to them',
    ]);
    const roles = ["user", "human", "gpt\x1b[2J", "a", "b", "c", "d"];
    const chats = roles.map((role) => ({ messages: [{ role, content: "x" }] }));
    expect(describeReport((await load(chats, {})).report)).toEqual([
      'conversations have roles that the chat template may not know: "a", "b", "c", "d", "gpt\\u001b[2J" and 1 more',
    ]);
  });
});

describe("packed rows in which nothing is learned", () => {
  const long = { prompt: "abcdefgh".repeat(6), completion: "x" };
  const good = { prompt: "a", completion: "b" };

  it("are kept in their place, and told", async () => {
    const { sequences: examples, report } = await load([good, long, long], { packing: true, max_length: 16 });
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
