/** Templates that models ship without marks: what is trained on, and what the assistant says in it, is what TRL makes of them. */
import { describe, expect, it } from "vitest";
import { ChatTemplate, type Message } from "../src/index.js";
import { readGoldenJson } from "./support/goldens.js";

interface Golden {
  template: string;
  cases: { messages: Message[]; text: string; spans: [number, number][] }[];
}
const goldens = Object.entries(readGoldenJson<Record<string, Golden>>("chat-templates.json"));

/** Stretches that touch are one: a mask of tokens cannot tell. */
function joined(spans: [number, number][]): [number, number][] {
  const result: [number, number][] = [];
  for (const [start, end] of spans) {
    const last = result.at(-1);
    if (last?.[1] === start) last[1] = end;
    else result.push([start, end]);
  }
  return result;
}

describe.each(goldens)("%s", (_, { template, cases }) => {
  const special = { bos_token: "<bos>", eos_token: "<eos>" };
  const made = new ChatTemplate(new Map([["default", { text: template, file: "a.jinja" }]]), special);

  it.each(cases.map((golden, index) => [index, golden] as const))("conversation %d", (_, { messages, text, spans }) => {
    const marked = made.renderMarked(messages);
    expect(marked.text).toBe(text);
    expect(joined(marked.spans)).toEqual(joined(spans));
    expect(made.render(messages, { marked: true })).toBe(text);
  });
});
