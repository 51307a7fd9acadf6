import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { detectFormat } from "./format.js";
import type { Row } from "./row.js";
import { type TokenizeOptions, tokenizeDataset } from "./tokenize.js";
import { Tokenizer } from "./tokenizer.js";

// That tokens and labels equal TRL's is shown in tests/tokenize.golden.test.ts; here is what surrounds them.
const tokenizer = await Tokenizer.load(fileURLToPath(new URL("../../tests/fixtures/tiny-llama", import.meta.url)));

const run = async (rows: Record<string, unknown>[], options: Partial<TokenizeOptions> = {}, other = tokenizer) => {
  const sourced: Row[] = rows.map((fields, i) => {
    const source = `f:${i + 1}`;
    return { fields, source, format: detectFormat({ fields, source }, options.dataset_text_field ?? "text") };
  });
  return tokenizeDataset(sourced, other, {
    max_length: 1024,
    truncation_mode: "keep_start",
    completion_only_loss: null,
    assistant_only_loss: false,
    dataset_text_field: "text",
    eos_token: null,
    ...options,
  });
};
const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

describe("the report", () => {
  it("counts what was cut, dropped and changed", async () => {
    const { examples, report } = await run(
      [
        { prompt: "a", completion: "b" },
        { prompt: "abcdefgh", completion: "b" }, // nothing of the completion remains
        { prompt: "abcd", completion: "bcdefgh" },
        { text: "a<|im_end|>" }, // ends as it should
        { text: "a<|im_start|>b" },
        { conversations: [{ from: "human", value: "x" }] },
      ],
      { max_length: 6 },
    );
    expect(report).toEqual({
      rows: 6,
      truncated: 3,
      cutToPositions: 0,
      droppedFullyMasked: 1,
      promptNotPrefix: 0,
      promptRewritten: 0,
      specialTokensInText: 1,
      withoutEos: 0,
      unusualRoles: ["human"],
      tokens: examples.reduce((sum, { inputIds }) => sum + inputIds.length, 0),
      // the first token of an example is predicted by nothing
      labels: examples.reduce((sum, { labels }) => sum + labels.slice(1).filter((label) => label !== -100).length, 0),
    });
    expect(examples).toHaveLength(5);
    expect(report.labels).toBeLessThan(report.tokens);
  });

  // Each with a row of its kind that has something to learn.
  const body = { dataset_text_field: "body" };
  const turns = (prompt: string) => ({ prompt: [user(prompt)], completion: [assistant("b")] });
  it.each<[string, Record<string, unknown>, Record<string, unknown>, Partial<TokenizeOptions>]>([
    ["an empty text, which is its end alone", { text: "" }, { text: "a b c" }, {}],
    ["an empty text without an end", { body: "" }, { body: "a b c" }, body],
    ["a text of one token", { body: "a" }, { body: "a b c" }, body],
    ["an empty prompt and completion", { prompt: "", completion: "" }, { prompt: "a", completion: "b" }, {}],
    [
      "an answer cut away",
      { prompt: "abcdefghi", completion: "b" },
      { prompt: "a", completion: "b" },
      { max_length: 8 },
    ],
    ["a turn cut away", turns("a".repeat(40)), turns("a"), { max_length: 24 }],
    [
      "an assistant's turn cut away",
      { messages: [user("abcd"), assistant("b")] },
      { messages: [assistant("a")] },
      { max_length: 8, assistant_only_loss: true },
    ],
  ])("leaves out %s, and counts it", async (_, row, good, options) => {
    const { examples, report } = await run([row, good, row], options);
    expect(examples.map(({ sources }) => sources)).toEqual([["f:2"]]);
    expect(report).toMatchObject({ rows: 3, droppedFullyMasked: 2 });
    expect(report.labels).toBeGreaterThan(0);
    await expect(run([row, row], options)).rejects.toThrow("none of the 2 rows of the dataset has a token that gives");
  });

  it("refuses to cut every row to one token", async () => {
    const rows = [{ text: "a b c" }, { text: "d e f" }];
    await expect(run(rows, { max_length: 1 })).rejects.toThrow(/none of the 2 rows.*cut to 1 tokens.*Raise max_length/);
  });

  it("keeps such rows for packing, which TRL packs like others", async () => {
    const { examples, report } = await run([{ text: "" }, { text: "a b" }], { packing: true });
    expect(examples).toHaveLength(2);
    expect(report).toMatchObject({ droppedFullyMasked: 0, labels: examples[1]!.inputIds.length - 1 });
    await expect(run([{ text: "" }], { packing: true })).rejects.toThrow("none of the 1 rows");
  });

  it("tells a prompt that is no beginning of the whole, which is masked by count", async () => {
    const { examples, report } = await run([{ prompt: "Ada took ", completion: "two maps" }]);
    expect(report.promptNotPrefix).toBe(1);
    const masked = tokenizer.encode("Ada took ").length;
    expect([...examples[0]!.labels].findIndex((label) => label !== -100)).toBe(masked);
  });

  it("tells cuts at the model's positions from cuts at max_length", async () => {
    const rows = [{ text: "a b c d e f" }, { text: "a" }];
    const short = await run(rows, { max_length: null, max_positions: 4 });
    expect([short.report.truncated, short.report.cutToPositions]).toEqual([0, 1]);
    expect(short.examples[0]!.inputIds).toHaveLength(4);
    const both = await run(rows, { max_length: 4, max_positions: 8 });
    expect([both.report.truncated, both.report.cutToPositions]).toEqual([1, 0]);
    const none = await run(rows, { max_length: null });
    expect(none.report.truncated + none.report.cutToPositions).toBe(0);
    expect(none.examples[0]!.inputIds.length).toBeGreaterThan(8);
  });
});

describe("end of sequence", () => {
  it("ends the column text, and as in TRL no other", async () => {
    const { examples, report } = await run([{ body: "a b" }], { dataset_text_field: "body" });
    expect([...examples[0]!.inputIds]).toEqual(tokenizer.encode("a b"));
    expect(report.withoutEos).toBe(1);
  });

  it("is eos_token when that is given", async () => {
    const { examples } = await run([{ text: "a" }], { eos_token: "<|endoftext|>" });
    expect(examples[0]!.inputIds.at(-1)).toBe(0);
    await expect(run([{ text: "a" }], { eos_token: "<none>" })).rejects.toThrow("training_args.eos_token");
  });
});

describe("data that does not fit", () => {
  it.each<[string, Record<string, unknown>, Partial<TokenizeOptions>, string]>([
    ["text", { text: "a" }, { assistant_only_loss: true }, "f:1: assistant_only_loss: true needs conversations"],
    ["prompts", { prompt: "a", completion: "b" }, { assistant_only_loss: true }, "plain prompt and completion"],
    ["text", { text: "a" }, { completion_only_loss: true }, "completion_only_loss: true needs prompt/completion"],
    ["messages", { messages: [user("a")] }, { completion_only_loss: true }, "or use assistant_only_loss: true"],
    [
      "conversations without an assistant",
      { conversations: [{ from: "human", value: "a" }] },
      { assistant_only_loss: true },
      'no turn of the role "assistant": its roles are "human"',
    ],
    ["tokens", { input_ids: [5, 6] }, { assistant_only_loss: true }, "neither labels nor assistant_masks"],
    ["tokens", { input_ids: [5, 6] }, { completion_only_loss: true }, "tokens without completion_mask"],
    ["no assistant", { messages: [user("a")] }, { assistant_only_loss: true }, "f:1: assistant_only_loss: true, but"],
    ["a wrong type", { text: 1 }, {}, 'f:1: "text" must be a text'],
  ])("is refused: %s", async (_, row, options, message) => {
    await expect(run([row], options)).rejects.toThrow(message);
  });

  it("is refused when nothing is left to learn, with what to do", async () => {
    await expect(run([{ prompt: "abcdefgh", completion: "b" }], { max_length: 3 })).rejects.toThrow(
      /none of the 1 rows.*cut to 3 tokens.*Raise max_length/,
    );
    const silent = { prompt: [user("a")], completion: [user("b")] };
    const generation = { completion_only_loss: true, assistant_only_loss: true };
    await expect(run([{ ...silent, prompt: [assistant("a")] }], generation)).rejects.toThrow(/Check the dataset/);
  });

  it("names the row whose conversation the template refuses", async () => {
    const silent = { role: "user", content: null, tool_calls: [] };
    await expect(run([{ messages: [user("a")] }, { messages: [silent] }])).rejects.toThrow(
      /^f:2: the model's chat template \(.*chat_template\.jinja\) fails/,
    );
  });
});
