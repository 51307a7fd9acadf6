import { describe, expect, it } from "vitest";
import { detectFormat, type Sample, toSample } from "./format.js";
import type { Row } from "./row.js";

const read = (
  fields: Record<string, unknown>,
  options: { template?: boolean; field?: string; as?: Row["format"] } = {},
) => {
  const textField = options.field ?? "text";
  const source = "f:1";
  const format = options.as ?? detectFormat({ fields, source }, textField);
  return toSample({ fields, source, format }, { textField, hasChatTemplate: options.template ?? true });
};
const user = { role: "user", content: "q" };
const assistant = { role: "assistant", content: "a" };
const talk = (messages: object[], promptLength?: number): Sample =>
  ({ kind: "conversation", messages, promptLength, tools: null, templateArgs: {} }) as Sample;

describe("toSample", () => {
  it("lets a turn's content be null, for the chat template to take", () => {
    const silent = { role: "assistant", content: null };
    expect(read({ messages: [user, silent] })).toEqual(talk([user, silent]));
  });

  it("reads tokens, also from typed arrays and big integers", () => {
    const tokens = { kind: "tokens", ids: [3, 4], labels: undefined, assistant: undefined, completion: undefined };
    expect(read({ input_ids: [3, 4], text: "also" })).toEqual(tokens);
    expect(read({ input_ids: BigInt64Array.of(3n, 4n), labels: Int32Array.of(-100, 4) })).toEqual({
      ...tokens,
      labels: [-100, 4],
    });
    expect(read({ input_ids: [3, 4], assistant_masks: [0, 1] })).toEqual({ ...tokens, assistant: [0, 1] });
  });

  it.each([
    [{ input_ids: "3 4" }, '"input_ids" must be a list of ids of tokens, but it is the string "3 4"'],
    [{ input_ids: [3, 1.5] }, "input_ids[1] must be one of the ids of tokens, but it is the number 1.5"],
    [{ input_ids: [3, -1] }, "input_ids[1] must be"],
    [{ input_ids: [3, 4], labels: [3] }, '"labels" has 1 numbers for 2 input_ids'],
    [
      { input_ids: [3, 4], labels: [4, 4] },
      "labels[0] is 4, and input_ids[0] is 3: a label is the token itself, or -100; labels are not shifted",
    ],
    [{ input_ids: [3], completion_mask: [2] }, "completion_mask[0] must be one of the 0 and 1"],
  ])("refuses the tokens %j", (fields, message) => {
    expect(() => read(fields)).toThrow(message);
  });

  it("reads every shape", () => {
    expect(read({ text: "t" })).toEqual({ kind: "text", text: "t", endWithEos: true });
    expect(read({ body: "t" }, { field: "body" })).toEqual({ kind: "text", text: "t", endWithEos: false });
    expect(read({ prompt: "p", completion: "c", text: "t" })).toEqual({
      kind: "prompt_completion",
      prompt: "p",
      completion: "c",
    });
    expect(read({ prompt: [user], completion: [assistant] })).toEqual(talk([user, assistant], 1));
    expect(read({ messages: [user, assistant] })).toEqual(talk([user, assistant]));
    // The roles of ShareGPT stay as TRL leaves them.
    expect(read({ conversations: [{ from: "human", value: "q" }] })).toEqual(talk([{ role: "human", content: "q" }]));
    expect(read({ messages: [{ from: "user", value: "q" }] })).toEqual(talk([user]));
  });

  it("reads Alpaca's columns as turns, or as a plain prompt when there is no chat template", () => {
    const row = { instruction: "do", input: "", output: "a" };
    expect(read(row)).toEqual(talk([{ role: "user", content: "do" }, assistant], 1));
    expect(read({ ...row, input: "x" })).toEqual(talk([{ role: "user", content: "do\n\nx" }, assistant], 1));
    expect(read({ ...row, input: null }, { template: false })).toEqual({
      kind: "prompt_completion",
      prompt: "Task: do\nAnswer:",
      completion: " a",
    });
    expect(read({ ...row, input: "x" }, { template: false })).toMatchObject({ prompt: "Task: do\nInput: x\nAnswer:" });
    // Such files often have a ready text, which TRL takes.
    expect(read({ ...row, text: "t" })).toMatchObject({ kind: "text" });
  });

  it("joins content in text parts", () => {
    const parts = [
      { type: "text", text: "a " },
      { type: "text", text: "b" },
    ];
    expect(read({ messages: [{ role: "user", content: parts }] })).toEqual(talk([{ role: "user", content: "a b" }]));
  });

  it("keeps what else a turn has, tools and template arguments", () => {
    const call = { role: "assistant", tool_calls: [{ name: "f" }] };
    const row = { messages: [user, call], tools: '[{"name":"f"}]', chat_template_kwargs: { think: false } };
    expect(read(row)).toEqual({
      kind: "conversation",
      messages: [user, call],
      promptLength: undefined,
      tools: [{ name: "f" }],
      templateArgs: { think: false },
    });
  });

  it.each<[string, Record<string, unknown>, Row["format"] | undefined, string]>([
    ["no known column", { a: 1 }, undefined, "f:1: cannot tell what to learn from the columns a; expected"],
    ["no column", {}, undefined, "no columns"],
    ["a lone prompt", { prompt: "p" }, "prompt_completion", '"completion" is missing'],
    ["null", { text: null }, undefined, '"text" must be a text, but it is null'],
    ["a number", { prompt: "p", completion: 4 }, undefined, '"completion" must be a text, but it is the number 4'],
    ["mixed kinds", { prompt: "p", completion: [assistant] }, undefined, '"prompt" must be a list of turns'],
    ["no turns", { messages: [] }, undefined, '"messages" is an empty list'],
    ["turns that are texts", { messages: ["hi"] }, undefined, "f:1: messages[0] must be a turn like"],
    ["no role", { messages: [user, { content: "x" }] }, undefined, 'messages[1]: "role" (or "from") must be a text'],
    [
      "no content",
      { messages: [{ role: "user" }] },
      undefined,
      '"content" (or "value") must be a text, but it is missing',
    ],
    [
      "an image",
      { messages: [{ role: "user", content: [{ type: "image" }] }] },
      undefined,
      'part of "content" is an object',
    ],
    ["tools that are no JSON", { messages: [user], tools: "[" }, undefined, '"tools" is a text that is not valid JSON'],
    ["tools that are no list", { messages: [user], tools: {} }, undefined, '"tools" must be a list'],
    ["bad template arguments", { messages: [user], chat_template_kwargs: 1 }, undefined, "must be an object"],
  ])("refuses %s", (_, fields, as, message) => {
    expect(() => read(fields, as === undefined ? {} : { as })).toThrow(message);
  });
});
