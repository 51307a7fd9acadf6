import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { ChatTemplate } from "./chatTemplate.js";

const user = { role: "user", content: "hi" };
const assistant = { role: "assistant", content: "yes" };
/** Templates by name. */
const from = (texts: Record<string, string>, variables: Record<string, unknown> = {}) =>
  new ChatTemplate(new Map(Object.entries(texts).map(([name, text]) => [name, { text, file: "a.jinja" }])), variables);
const make = (source: string) => from({ default: source }, { bos_token: "<s>", eos_token: "</s>" });

const PLAIN = `{%- for m in messages %}
    {{- '<' + m.role + '>' + m.content + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}
`;
const marked = (open: string, close: string) => `{{ bos_token }}
{%- for m in messages %}
  {%- if m.role == 'assistant' %}
    {{- '<assistant>' }}
    ${open}
    {{- m.content }}{{ eos_token }}
    ${close}
    {{- '\\n' }}
  {%- else %}
    {{- '<' + m.role + '>' + m.content + '\\n' }}
  {%- endif %}
{%- endfor %}`;
const said = (source: string, messages = [user, assistant, user, assistant]) => {
  const { text, spans } = make(source).renderMarked(messages);
  return { text, said: spans.map(([start, end]) => text.slice(start, end)) };
};

describe("render", () => {
  it("strips the characters that it is told, as Python does", () => {
    const strip = (how: string) =>
      make(`{{ '[' + messages[0].content.${how} + ']' }}`).render([{ ...user, content: " \n a\n\n" }]);
    expect(strip("strip('\\n')")).toBe("[ \n a]");
    expect(strip("lstrip(' ')")).toBe("[\n a\n\n]");
    expect(strip("rstrip('a\\n')")).toBe("[ \n ]");
    expect(strip("strip()")).toBe("[a]");
  });

  it("gives null to a template that takes it, and says what one that does not needs", () => {
    const silent = { role: "assistant", content: null, tool_calls: [{}] };
    expect(
      make("{% for m in messages %}{% if m.content %}{{ m.content }}{% else %}-{% endif %}{% endfor %}").render([
        user,
        silent,
      ]),
    ).toBe("hi-");
    expect(() => make("{{ messages[1].content + 'x' }}").render([user, silent])).toThrow(
      /fails on this conversation: .*The content of turn 2 is null; this template needs a text: ""/,
    );
  });

  it("gives the template its variables and settings", () => {
    expect(make(PLAIN).render([user], { addGenerationPrompt: true })).toBe("<user>hi</s><assistant>");
    expect(make("{{ tools is none }}{{ documents is defined }}{{ deep }}").render([user], { deep: "x" })).toBe(
      "truetruex",
    );
    expect(make("  {% if true %}\nx\n  {% endif %}\n").render([user])).toBe("x\n");
    expect(make(PLAIN).withVariables({ eos_token: "!" }).render([user])).toBe("<user>hi!");
  });

  it("takes tool_use for tools, and default otherwise", () => {
    const both = from({ default: "d", tool_use: "t{{ tools | length }}" });
    expect([both.render([user]), both.render([user], { tools: [{}] })]).toEqual(["d", "t1"]);
    expect(() => from({ rag: "x" }).render([user])).toThrow(/templates \(rag\) and none is/);
  });

  it("reports what the template raises and what it cannot do", () => {
    expect(() => make("{{ raise_exception('no system') }}").render([user])).toThrow(UserError);
    expect(() => make("{{ raise_exception('no system') }}").render([user])).toThrow("no system");
    expect(() => make("{% if %}").render([user])).toThrow("chat template (a.jinja) cannot be read");
  });

  it.each([
    ["{% for i in range(1000000000) %}x{% endfor %}", "range is too big: the limit is 100000 items"],
    ["{% for i in range(5, 2 ** 60) %}x{% endfor %}", "range is too big"],
    ["{% for i in range(0, -200000, -1) %}x{% endfor %}", "range is too big"],
    [`{% for i in range(90000) %}{{ 1${" + 1".repeat(100)} }}{% endfor %}`, "more than 4000000 steps"],
    [
      "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "a text of more than",
    ],
    [
      "{% set ns = namespace(s=[1, 2, 3]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "a list of more than",
    ],
    [`{% for i in range(700) %}${"x".repeat(100_000)}{% endfor %}`, "a text of more than"],
  ])("ends %s", (source, message) => {
    let error: unknown;
    try {
      make(source).render([user]);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).message).toContain("the model's chat template (a.jinja) fails on this conversation: ");
    expect((error as UserError).message).toContain(message);
  });

  it("lets a long conversation through", () => {
    const turns = Array.from({ length: 5000 }, (_, i) => (i % 2 === 0 ? user : assistant));
    expect(make(PLAIN).render(turns)).toHaveLength(2500 * "<user>hi</s><assistant>yes</s>".length);
    expect(make("{{ range(100000) | length }}").render([user])).toBe("100000");
  });
});

describe("renderMarked", () => {
  // The texts are transformers' own.
  it.each([
    ["{% generation %}", "{% endgeneration %}", "<s><user>hi\n<assistant>\nyes</s>\n\n", "yes</s>\n"],
    ["{%generation%}", "{%endgeneration%}", "<s><user>hi\n<assistant>\nyes</s>\n\n", "yes</s>\n"],
    ["{%- generation %}", "{%- endgeneration %}", "<s><user>hi\n<assistant>yes</s>\n", "yes</s>"],
    ["{%- generation -%}", "{%- endgeneration -%}", "<s><user>hi\n<assistant>yes</s>\n", "yes</s>"],
  ])("finds the turns of %s blocks", (open, close, text, turn) => {
    const template = make(marked(open, close));
    expect(template.render([user, assistant])).toBe(text);
    expect(said(marked(open, close), [user, assistant])).toEqual({ text, said: [turn] });
    expect(said(marked(open, close)).said).toEqual([turn, turn]);
  });

  it("finds them by prefixes when there is no block, even if a comment speaks of one", () => {
    const expected = {
      text: "<user>hi</s><assistant>yes</s><user>hi</s><assistant>yes</s>",
      said: ["yes</s>", "yes</s>"],
    };
    expect(said(PLAIN)).toEqual(expected);
    expect(said(`{#- no {% generation %} here -#}${PLAIN}`)).toEqual(expected);
  });

  it("refuses templates that change what was before, or use a block's text", () => {
    const last = "{% for m in messages %}{{ m.content if loop.last else '-' }}{% endfor %}";
    expect(() => said(last)).toThrow("no {% generation %} block");
    const trims = "{% set x %}{% generation %}{{ messages[1].content }}{% endgeneration %}{% endset %}{{ x | upper }}";
    expect(() => said(trims)).toThrow("{% generation %}");
  });
});
