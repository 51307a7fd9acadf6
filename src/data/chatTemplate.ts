import { randomUUID } from "node:crypto";
import { Template } from "@huggingface/jinja";
import { UserError } from "../support/errors.js";
import { type Renderer, renderBounded } from "./boundedTemplate.js";
import type { Message } from "./format.js";
import { markedTemplate } from "./knownTemplates.js";

/** A template as it was read. */
export interface TemplateSource {
  /** Jinja. */
  text: string;
  /** Where it stands, for messages. */
  file: string;
}

/** How to render a conversation; other names are variables of the template. */
export interface RenderOptions {
  /** End with the header that asks the assistant to speak. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of the tools that the assistant may call. */
  tools?: unknown[] | null;
  /** By the template that `renderMarked` goes by: that of some models is another, with marks. */
  marked?: boolean;
  /** Further variables for the template. */
  [name: string]: unknown;
}

/** A rendered conversation and the stretches of it that the assistant said, as indices of UTF-16 units [start, end). */
export interface MarkedText {
  text: string;
  spans: [start: number, end: number][];
}

const GENERATION_TAG = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g;
/**
 * The source with other blocks in place of the generation tags, which keep the whitespace control of the tags. (The Jinja
 * library only cuts the tags out, so that a dash of a neighbour reaches further than it should.)
 */
const withTags = (source: string, start: string, end: string) =>
  source.replace(
    GENERATION_TAG,
    (_, before: string, isEnd: string | undefined, after: string) =>
      `{%${before} if true %}${isEnd ? end : start}{% endif ${after}%}`,
  );

const hasMarks = (source: string) => source.replace(/\{#[\s\S]*?#\}/g, "").search(GENERATION_TAG) >= 0;

// Random, so that no text of a dataset can hold it.
const MARK = `\uE000${randomUUID()}`;
const START = `${MARK}<\uE001`;
const END = `${MARK}>\uE001`;

/**
 * A chat template of a model folder: Jinja with the settings, variables and functions that transformers gives it.
 * Named templates are supported as there: "tool_use" when there are tools, else "default".
 */
export class ChatTemplate {
  readonly #sources: ReadonlyMap<string, TemplateSource>;
  readonly #variables: Record<string, unknown>;
  readonly #compiled: Map<string, Renderer>;

  /** `variables` are the special tokens by name (`bos_token`, ...). */
  constructor(
    sources: ReadonlyMap<string, TemplateSource>,
    variables: Record<string, unknown>,
    compiled = new Map<string, Renderer>(),
  ) {
    this.#sources = sources;
    this.#variables = variables;
    this.#compiled = compiled;
  }

  /** The same templates with other special tokens. */
  withVariables(variables: Record<string, unknown>): ChatTemplate {
    return new ChatTemplate(this.#sources, { ...this.#variables, ...variables }, this.#compiled);
  }

  /** @throws UserError when the template refuses the conversation or fails on it. */
  render(messages: Message[], options: RenderOptions = {}): string {
    return this.#render(this.#choose(options), messages, options);
  }

  /**
   * Renders a conversation and finds what the assistant said: by the `{% generation %}` blocks of the template, or, when
   * it has none, by rendering the conversation turn by turn, each of which must begin with the one before.
   * @throws UserError when neither way finds the assistant's turns.
   */
  renderMarked(messages: Message[], options: RenderOptions = {}): MarkedText {
    const source = this.#choose({ ...options, marked: true });
    const text = this.#render(source, messages, options);
    return hasMarks(source.text)
      ? this.#splitMarks(source, text, messages, options)
      : { text, spans: this.#spansByPrefix(source, text, messages, options) };
  }

  #choose({ tools, marked }: RenderOptions): TemplateSource {
    const source = (tools ? this.#sources.get("tool_use") : undefined) ?? this.#sources.get("default");
    if (source !== undefined && marked && !hasMarks(source.text)) {
      return { ...source, text: markedTemplate(source.text) ?? source.text };
    }
    if (source !== undefined) return source;
    throw new UserError(
      `the model folder has several chat templates (${[...this.#sources.keys()].join(", ")}) and none is named ` +
        '"default". Name one so in tokenizer_config.json, or save it as chat_template.jinja.',
    );
  }

  #render(
    { text, file }: TemplateSource,
    messages: Message[],
    { addGenerationPrompt, tools, marked: _, ...others }: RenderOptions,
  ): string {
    let template: Renderer | undefined = this.#compiled.get(text);
    try {
      if (template === undefined) {
        template = new Template(withTags(text, "", ""));
        this.#compiled.set(text, template);
      }
      return renderBounded(template, {
        documents: null,
        ...this.#variables,
        ...others,
        messages,
        tools: tools ?? null,
        add_generation_prompt: addGenerationPrompt ?? false,
      });
    } catch (error) {
      const silent = template ? messages.findIndex(({ content }) => content === null) : -1;
      const hint = silent < 0 ? "" : `. The content of turn ${silent + 1} is null; this template needs a text: ""`;
      throw new UserError(
        `the model's chat template (${file}) ${template ? "fails on this conversation" : "cannot be read"}: ${(error as Error).message}${hint}`,
        { cause: error },
      );
    }
  }

  #splitMarks(source: TemplateSource, text: string, messages: Message[], options: RenderOptions): MarkedText {
    const marked = { ...source, text: withTags(source.text, `{{ "${START}" }}`, `{{ "${END}" }}`) };
    const rendered = this.#render(marked, messages, options);
    const spans: [number, number][] = [];
    let plain = "";
    let open: number | undefined;
    for (const [index, part] of rendered.split(MARK).entries()) {
      if (index === 0) {
        plain = part;
        continue;
      }
      if (part.startsWith("<")) open = plain.length;
      else if (open !== undefined) {
        spans.push([open, plain.length]);
        open = undefined;
      }
      plain += part.slice(2);
    }
    if (plain !== text) {
      throw new UserError(
        "assistant_only_loss: the model's chat template uses the text of its {% generation %} blocks, so the " +
          "assistant's turns cannot be marked. Move the blocks to where the text is written out.",
      );
    }
    return { text, spans };
  }

  #spansByPrefix(
    source: TemplateSource,
    text: string,
    messages: Message[],
    options: RenderOptions,
  ): [number, number][] {
    const spans: [number, number][] = [];
    for (const [index, { role }] of messages.entries()) {
      if (role !== "assistant") continue;
      const before = this.#render(source, messages.slice(0, index), { ...options, addGenerationPrompt: true });
      const after = this.#render(source, messages.slice(0, index + 1), { ...options, addGenerationPrompt: false });
      if (!after.startsWith(before) || !text.startsWith(after)) {
        throw new UserError(
          "assistant_only_loss: the model's chat template has no {% generation %} block, and its text for the first " +
            `${index + 1} turns is not the beginning of its text for the whole conversation, so the assistant's turns ` +
            "cannot be found. Put {% generation %} ... {% endgeneration %} around them in chat_template.jinja, or use " +
            "prompt/completion data.",
        );
      }
      spans.push([before.length, after.length]);
    }
    return spans;
  }
}
