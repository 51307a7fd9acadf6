import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";
import { type TokenizedDataset, type TokenizeOptions, tokenizeRows } from "./tokenize.js";
import { type PoolOptions, TokenizerPool, type Work } from "./tokenizePool.js";
import { Tokenizer } from "./tokenizer.js";

const fixture = fileURLToPath(new URL("../../tests/fixtures/tiny-llama", import.meta.url));
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

async function inThreads(
  rows: Row[],
  work: Partial<Work> = {},
  pool: Partial<PoolOptions> = {},
): Promise<TokenizedDataset> {
  await using threads = new TokenizerPool({ folder: fixture, options, workers: 2, ...pool });
  return await threads.tokenize({ rows, templates: "chat.jinja", ...work });
}

describe("tokenising in worker threads", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(fixture);
  });

  it.each([1, 3])("gives what one thread gives, with %d, and leaves this one free", async (workers) => {
    const rows = makeRows(5000);
    const progress: number[] = [];
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const result = await inThreads(rows, { onProgress: (done) => progress.push(done) }, { workers });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(5);
    expect(result).toEqual(tokenizeRows(rows, tokenizer, options));
    expect(result.report.truncated).toBeGreaterThan(0);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBe(5000);
  });

  it("names the first bad row, as one thread does", async () => {
    const rows = makeRows(700);
    rows[650]!.fields = { prompt: 1, completion: "" };
    rows[300]!.fields = { prompt: "What?", completion: 7 };
    const error = await inThreads(rows, {}, { workers: 3 }).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain("data.jsonl:301");
    expect(() => tokenizeRows(rows, tokenizer, options)).toThrow(error.message);
  });

  it("ends when it is told to", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const work = { signal: controller.signal, onProgress: () => controller.abort(reason) };
    await expect(inThreads(makeRows(2000), work)).rejects.toBe(reason);
    await expect(inThreads(makeRows(2), { signal: controller.signal })).rejects.toBe(reason);
  });

  it("names a row that no thread can be sent", async () => {
    const rows = makeRows(300);
    let nested: unknown = [];
    for (let depth = 0; depth < 100_000; depth++) nested = [nested];
    rows[200]!.fields.extra = nested;
    const error = await inThreads(rows).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain("data.jsonl:201: the row is nested too deeply");
  });

  it("does nothing for no rows", async () => {
    expect((await inThreads([])).report.rows).toBe(0);
  });
});

describe("a model folder that would take for ever, or all memory", () => {
  const made: string[] = [];
  afterEach(() => {
    for (const folder of made.splice(0)) rmSync(folder, { recursive: true });
  });
  function folderWith(change: (json: Record<string, unknown>) => void, template?: string): string {
    const folder = mkdtempSync(join(tmpdir(), "slimtune-pool-"));
    made.push(folder);
    for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
      cpSync(join(fixture, name), join(folder, name));
    }
    const file = join(folder, "tokenizer.json");
    const json = JSON.parse(readFileSync(file, "utf8"));
    change(json);
    writeFileSync(file, JSON.stringify(json));
    if (template !== undefined) writeFileSync(join(folder, "chat_template.jinja"), template);
    return folder;
  }
  const EVIL = { Regex: "(a+)+$" };
  const split = { type: "Split", pattern: EVIL, behavior: "Isolated", invert: false };
  const replace = { type: "Replace", pattern: EVIL, content: "x" };
  const evilRow: Row = { fields: { text: `${"a".repeat(60)}b` }, source: "data.jsonl:9", format: "text" };
  const rows = [...makeRows(5), evilRow];
  const fields = { messages: [{ role: "user", content: "Hello" }] };
  const chat: Row = { fields, source: "data.jsonl:1", format: "messages" };

  it.each<[string, (json: Record<string, unknown>) => void]>([
    ["pre-tokenizer", (json) => Object.assign(json, { pre_tokenizer: split })],
    ["normalizer", (json) => Object.assign(json, { normalizer: replace })],
  ])("by a pattern of its %s is named with the row", async (_, change) => {
    const folder = folderWith(change);
    const error = await inThreads(rows, {}, { folder, rowSeconds: 1 }).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toMatch(/^data\.jsonl:9: tokenising this row has not ended after \d seconds: a pattern in /);
    expect(error.message).toContain(`${folder}/tokenizer.json`);
  });

  it("while it is loaded is named", async () => {
    const folder = folderWith((json) => {
      const added_tokens = [{ id: 384, content: `${"a".repeat(60)}b`, special: true, normalized: true }];
      Object.assign(json, { normalizer: replace, added_tokens });
    });
    const error = await inThreads(rows, {}, { folder, rowSeconds: 1 }).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toMatch(/tokenizer\.json: loading it has not ended after \d seconds/);
  });

  it("by its chat template is named", async () => {
    const folder = folderWith(() => {}, `{{${" ".repeat(900_000)}}}`);
    const error = await inThreads([chat], {}, { folder, rowSeconds: 1 }).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toMatch(
      /^data\.jsonl:1: tokenising this row has not ended .*: the chat template \(chat\.jinja\)/,
    );
  });

  it("by the memory that its chat template takes is named, and the process lives", async () => {
    const kept = "{% set all.list = all.list + [messages[0].content | upper ~ i] %}";
    const template = `{% set all = namespace(list=[]) %}{% for i in range(100000) %}${kept}{% endfor %}`;
    const long = { ...chat, fields: { messages: [{ role: "user", content: "x".repeat(1e6) }] } };
    const error = await inThreads([long], {}, { folder: folderWith(() => {}, template), heapMiB: 64 }).catch((e) => e);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toMatch(
      /^data\.jsonl:1: tokenising this row takes all memory .*: the chat template \(chat\.jinja\)/,
    );
  });

  it("ends when it is told to", async () => {
    const folder = folderWith((json) => Object.assign(json, { pre_tokenizer: split }));
    const begun = performance.now();
    await expect(inThreads(rows, { signal: AbortSignal.timeout(700) }, { folder })).rejects.toThrow(/timeout/);
    expect(performance.now() - begun).toBeLessThan(5000);
  });
});
