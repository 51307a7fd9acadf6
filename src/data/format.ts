import { UserError } from "../support/errors.js";
import type { Row } from "./row.js";

/** One turn of a conversation, as chat templates see it. */
export interface Message {
  role: string;
  /** Absent only in a turn that does something else than speak; null is the chat template's to take or to refuse. */
  content?: string | null;
  [key: string]: unknown;
}

/** A whole text to learn. */
export interface Text {
  kind: "text";
  text: string;
  /** TRL ends the column named "text" with EOS, and no other that dataset_text_field may name. */
  endWithEos: boolean;
}

/** A text to answer, and the answer. */
export interface PromptCompletion {
  kind: "prompt_completion";
  prompt: string;
  completion: string;
}

/** Turns for the chat template; with `promptLength`, that many of them are the prompt and the others its completion. */
export interface Conversation {
  kind: "conversation";
  messages: Message[];
  promptLength: number | undefined;
  tools: unknown[] | null;
  /** The row's own arguments for the template (`chat_template_kwargs`). */
  templateArgs: Record<string, unknown>;
}

/** Token ids that somebody else made. */
export interface Tokens {
  kind: "tokens";
  ids: number[];
  /** Undefined: each token is its own label, where the masks let it. */
  labels: number[] | undefined;
  /** 0 where nothing is learned, whatever the options. */
  assistant: number[] | undefined;
  /** 0 in the prompt. */
  completion: number[] | undefined;
}

export type Sample = Text | PromptCompletion | Conversation | Tokens;

type Fields = Row["fields"];
type SourcedFields = Pick<Row, "fields" | "source">;

const EXPECTED =
  'expected {"prompt", "completion"}, {"messages"}, {"conversations"}, {"text"}, {"instruction", "input", "output"} or {"input_ids"}';

/** The names of a row's columns, for messages. */
export function listKeys(fields: Fields): string {
  const names = Object.keys(fields);
  return names.length === 0 ? "no columns" : `the columns ${names.join(", ")}`;
}

/**
 * Tells the format from the columns, in the order in which TRL looks for them; Alpaca's come last, since TRL does not
 * know them and some such files also have a ready "text".
 */
export function detectFormat({ fields, source }: SourcedFields, textField: string): Row["format"] {
  const has = (...names: string[]) => names.every((name) => Object.hasOwn(fields, name));
  if (has("input_ids")) return "tokenized";
  if (has("prompt", "completion")) return "prompt_completion";
  if (has("messages")) return "messages";
  if (has("conversations")) return "sharegpt";
  if (has(textField) || has("text")) return "text";
  if (has("instruction", "output")) return "alpaca";
  throw new UserError(
    `${source}: cannot tell what to learn from ${listKeys(fields)}; ${EXPECTED}. ` +
      "Name the columns in the config, for instance dataset: {path: ..., columns: {prompt: question, completion: answer}}.",
  );
}

/**
 * Reads a row in its format. Alpaca's instruction and input become a user's turn and the output the assistant's, when
 * there is a chat template; else they become a plain prompt that ends in "Answer:", and the completion.
 * @throws UserError that names the row, the column, what was found and what was expected.
 */
export function toSample(row: Row, options: { textField: string; hasChatTemplate: boolean }): Sample {
  const { fields } = row;
  switch (row.format) {
    case "text": {
      const name = Object.hasOwn(fields, options.textField) ? options.textField : "text";
      return { kind: "text", text: stringField(row, name), endWithEos: name === "text" };
    }
    case "messages":
      return conversation(row, messageList(row, "messages"), undefined);
    case "sharegpt":
      return conversation(row, messageList(row, "conversations"), undefined);
    case "prompt_completion": {
      if (Array.isArray(fields.prompt) || Array.isArray(fields.completion)) {
        const prompt = messageList(row, "prompt");
        return conversation(row, [...prompt, ...messageList(row, "completion")], prompt.length);
      }
      const prompt = stringField(row, "prompt");
      return { kind: "prompt_completion", prompt, completion: stringField(row, "completion") };
    }
    case "alpaca":
      return alpaca(row, options.hasChatTemplate);
    case "tokenized":
      return tokens(row);
  }
}

function tokens(row: Row): Tokens {
  const ids = tokenList(row, "input_ids", "ids of tokens", (id) => id >= 0);
  const optional = (name: string, what: string, fits: (value: number) => boolean) => {
    if (row.fields[name] == null) return undefined;
    const list = tokenList(row, name, what, fits);
    if (list.length === ids.length) return list;
    throw new UserError(`${row.source}: "${name}" has ${list.length} numbers for ${ids.length} input_ids`);
  };
  const labels = optional("labels", "ids of tokens, or -100", (id) => id >= 0 || id === -100);
  const other = labels?.findIndex((label, i) => label !== -100 && label !== ids[i]) ?? -1;
  if (other >= 0) {
    throw new UserError(
      `${row.source}: labels[${other}] is ${labels![other]}, and input_ids[${other}] is ${ids[other]}: a label is the token itself, or -100; labels are not shifted`,
    );
  }
  const mask = (name: string) => optional(name, "0 and 1", (bit) => bit === 0 || bit === 1);
  return { kind: "tokens", ids, labels, assistant: mask("assistant_masks"), completion: mask("completion_mask") };
}

function tokenList(row: Row, name: string, what: string, fits: (value: number) => boolean): number[] {
  const value = field(row, name);
  const isList = Array.isArray(value) || (ArrayBuffer.isView(value) && "length" in value);
  if (!isList) throw new UserError(`${row.source}: "${name}" must be a list of ${what}, but it is ${describe(value)}`);
  return Array.from(value as ArrayLike<unknown>, (given, index) => {
    const number = typeof given === "bigint" ? Number(given) : given;
    if (typeof number === "number" && Number.isInteger(number) && fits(number)) return number;
    throw new UserError(`${row.source}: ${name}[${index}] must be one of the ${what}, but it is ${describe(given)}`);
  });
}

function alpaca(row: Row, hasChatTemplate: boolean): Sample {
  const instruction = stringField(row, "instruction");
  const input = row.fields.input == null ? "" : stringField(row, "input");
  const output = stringField(row, "output");
  if (!hasChatTemplate) {
    const question = input === "" ? `Task: ${instruction}` : `Task: ${instruction}\nInput: ${input}`;
    return { kind: "prompt_completion", prompt: `${question}\nAnswer:`, completion: ` ${output}` };
  }
  const content = input === "" ? instruction : `${instruction}\n\n${input}`;
  return conversation(
    row,
    [
      { role: "user", content },
      { role: "assistant", content: output },
    ],
    1,
  );
}

function conversation(row: Row, messages: Message[], promptLength: number | undefined): Conversation {
  return { kind: "conversation", messages, promptLength, tools: toolList(row), templateArgs: templateArgs(row) };
}

function field({ fields, source, format }: Row, name: string): unknown {
  if (Object.hasOwn(fields, name)) return fields[name];
  throw new UserError(
    `${source}: "${name}" is missing; the format ${format} needs it, and the row has ${listKeys(fields)}`,
  );
}

function stringField(row: Row, name: string): string {
  const value = field(row, name);
  if (typeof value === "string") return value;
  throw new UserError(`${row.source}: "${name}" must be a text, but it is ${describe(value)}`);
}

function messageList(row: Row, name: string): Message[] {
  const value = field(row, name);
  const expected = 'a list of turns like [{"role": "user", "content": "..."}]';
  if (!Array.isArray(value)) {
    throw new UserError(`${row.source}: "${name}" must be ${expected}, but it is ${describe(value)}`);
  }
  if (value.length === 0) throw new UserError(`${row.source}: "${name}" is an empty list; expected ${expected}`);
  return value.map((item, index) => toMessage(item, `${row.source}: ${name}[${index}]`));
}

function toMessage(value: unknown, where: string): Message {
  if (!isObject(value)) {
    throw new UserError(
      `${where} must be a turn like {"role": "user", "content": "..."}, but it is ${describe(value)}`,
    );
  }
  // ShareGPT's names. The roles themselves (human, gpt) stay as they are, as in TRL.
  const { from, value: said, ...rest } = value;
  const message: Record<string, unknown> = { ...rest };
  if (from !== undefined) message.role = from;
  if (said !== undefined) message.content = said;
  if (Array.isArray(message.content)) message.content = joinParts(message.content, where);
  const { role, content } = message;
  if (typeof role !== "string" || role === "") {
    throw new UserError(`${where}: "role" (or "from") must be a text such as "user", but it is ${describe(role)}`);
  }
  // A turn that only calls tools may say nothing, and exports write null for that.
  const mayBeSilent =
    content === null || (content === undefined && Object.keys(rest).some((key) => key !== "role" && key !== "content"));
  if (typeof content !== "string" && !mayBeSilent) {
    throw new UserError(`${where}: "content" (or "value") must be a text, but it is ${describe(content)}`);
  }
  return message as Message;
}

/** Content in parts, [{type: "text", text}]: their text. (The Jinja library would write a list out as JSON, unlike Python.) */
function joinParts(parts: unknown[], where: string): string {
  const texts = parts.map((part) => {
    if (isObject(part) && typeof part.text === "string") return part.text;
    throw new UserError(`${where}: a part of "content" is ${describe(part)}; only parts with a "text" can be learned`);
  });
  return texts.join("");
}

function toolList({ fields, source }: Row): unknown[] | null {
  let tools = fields.tools;
  if (typeof tools === "string") {
    try {
      tools = JSON.parse(tools);
    } catch (error) {
      throw new UserError(`${source}: "tools" is a text that is not valid JSON: ${(error as Error).message}`);
    }
  }
  if (tools == null) return null;
  if (Array.isArray(tools)) return tools;
  throw new UserError(`${source}: "tools" must be a list of JSON schemas, but it is ${describe(tools)}`);
}

function templateArgs({ fields, source }: Row): Record<string, unknown> {
  const value = fields.chat_template_kwargs;
  if (value == null) return {};
  if (isObject(value)) return value;
  throw new UserError(`${source}: "chat_template_kwargs" must be an object, but it is ${describe(value)}`);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function describe(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return `an object with the keys ${Object.keys(value).join(", ")}`;
  return `the ${typeof value} ${(typeof value === "string" ? JSON.stringify(value) : String(value)).slice(0, 60)}`;
}
