import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { preview } from "./preview.js";

const fixtures = fileURLToPath(new URL("../../tests/fixtures/", import.meta.url));
let config: string;

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-preview-"));
  writeFileSync(
    join(folder, "data.jsonl"),
    [
      { prompt: "Where is Ada?", completion: " In Lagos." },
      { prompt: "And Chloé?", completion: " In Perth." },
    ]
      .map((row) => JSON.stringify(row))
      .join("\n"),
  );
  config = join(folder, "config.yaml");
  writeFileSync(config, `model: ${fixtures}tiny-llama\ndataset: data.jsonl\n`);
});
afterEach(() => rmSync(join(config, ".."), { recursive: true }));

async function collect(lines: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

const lines = async (words: string[], count: number, colour = false) =>
  collect(preview([config, ...words], count, colour));

describe("slimtune preview", () => {
  it("shows rows with what is learned marked", async () => {
    const shown = await lines([], 1);
    expect(shown[0]).toMatch(/^--- row 1: \d+ tokens$/);
    expect(shown[1]).toBe("Where is Ada?⟦ In Lagos.<|im_end|>⟧");
    expect(shown.at(-1)).toMatch(/^2 rows, \d+ tokens \(at most \d+ in one row\), \d+ of them learned$/);
    expect(shown.join()).not.toContain("Chloé");
  });

  it("colours on a terminal, and follows the options", async () => {
    const shown = await lines(["--completion_only_loss", "false"], 2, true);
    expect(shown[3]).toBe("And\x1b[32m Chloé? In Perth.<|im_end|>\x1b[0m");
  });

  it("spells out what would command a terminal, and keeps its own colours", async () => {
    const row = { prompt: "a\x1b]0;title\x07\r", completion: "\x1b[2J\u202Eb" };
    writeFileSync(join(config, "..", "data.jsonl"), JSON.stringify(row));
    expect((await lines([], 1, true))[1]).toBe(
      "a\\u{1b}]0;title\\u{7}\\u{d}\x1b[32m\\u{1b}[2J\\u{202e}b<|im_end|>\x1b[0m",
    );
  });

  it("keeps packed examples apart", async () => {
    const shown = await lines(["--packing", "true"], 5);
    expect(shown[0]).toMatch(/^--- row 1: \d+ tokens, 2 examples$/);
    expect(shown[1]).toContain("\n--- and in the same row, unseen by the others:\n");
    expect(shown.at(-1)).toMatch(/^1 row, /);
  });
});
