import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";
import { type TokenizeOptions, tokenizeRows } from "./tokenize.js";
import { tokenizeInWorkers } from "./tokenizePool.js";
import { Tokenizer } from "./tokenizer.js";

const folder = fileURLToPath(new URL("../../tests/fixtures/tiny-llama", import.meta.url));
const options: TokenizeOptions = {
  max_length: 24,
  truncation_mode: "keep_start",
  completion_only_loss: null,
  assistant_only_loss: false,
  dataset_text_field: "text",
  eos_token: null,
};

const makeRows = (count: number): Row[] =>
  Array.from({ length: count }, (_, i) => ({
    fields: { prompt: `What is ${i} times ${i}? `, completion: `${"It is ".repeat(i % 7)}${i * i}.` },
    source: `data.jsonl:${i + 1}`,
    format: "prompt_completion",
  }));

describe("tokenising in worker threads", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(folder);
  });

  it.each([1, 3])("gives what one thread gives, with %d", async (workers) => {
    const rows = makeRows(500);
    const progress: number[] = [];
    const given = { ...options, onProgress: (done: number) => progress.push(done) };
    const result = await tokenizeInWorkers(rows, folder, given, workers);
    expect(result).toEqual(await tokenizeRows(rows, tokenizer, options));
    expect(result.report.truncated).toBeGreaterThan(0);
    expect(progress.at(-1)).toBe(500);
  });

  it("names the first bad row, as one thread does", async () => {
    const rows = makeRows(700);
    rows[650]!.fields = { prompt: 1, completion: "" };
    rows[300]!.fields = { prompt: "What?", completion: 7 };
    const error = await tokenizeInWorkers(rows, folder, options, 3).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain("data.jsonl:301");
    await expect(tokenizeRows(rows, tokenizer, options)).rejects.toThrow(error.message);
  });

  it("ends when it is told to", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const given = { ...options, signal: controller.signal, onProgress: () => controller.abort(reason) };
    await expect(tokenizeInWorkers(makeRows(2000), folder, given, 2)).rejects.toBe(reason);
  });
});
