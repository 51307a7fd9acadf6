import { readdir } from "node:fs/promises";
import path from "node:path";
import { CHAT_TEMPLATE, CHAT_TEMPLATES } from "../files/modelFolder.js";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import type { TemplateSource } from "./chatTemplate.js";
import { checkVocabulary } from "./vocabulary.js";

/** What the files of a model folder say about its tokenizer. */
export interface TokenizerFiles {
  /** tokenizer.json, with the special tokens that only the other files name added as transformers adds them. */
  tokenizer: TokenizerJson;
  /** Special tokens by the name that chat templates know: `bos_token`, `eos_token`, ... */
  special: Record<string, string>;
  /** Id by token, of the vocabulary and all added tokens. */
  ids: ReadonlyMap<string, number>;
  /** Chat templates by name; empty when the model has none. */
  chatTemplates: Map<string, TemplateSource>;
  /** Whether decoding tidies the spaces before punctuation. */
  cleanUp: boolean;
}

export interface AddedTokenJson {
  id: number;
  content: string;
  special: boolean;
  [flag: string]: unknown;
}

export interface TokenizerJson {
  added_tokens: AddedTokenJson[];
  model: { type?: string; vocab: Record<string, number> | [string, number][]; [part: string]: unknown };
  [part: string]: unknown;
}

type Json = Record<string, unknown>;
/** A special token as the files write it: its text, or an object with its text and flags. */
type TokenValue = string | { content: string; [flag: string]: unknown };

const CONFIG = "tokenizer_config.json";
const NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * Reads tokenizer.json, tokenizer_config.json, special_tokens_map.json and the chat templates of a model folder.
 * @throws UserError for a missing folder or tokenizer.json, and for a file that is not what its name says.
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const json = await readJson(folder, "tokenizer.json");
  if (json === undefined) throw await missingTokenizer(folder);
  const file = path.join(folder, "tokenizer.json");
  const tokenizer = checkTokenizer(json, file);
  const ids = checkVocabulary(tokenizer, file);
  const config = (await readJson(folder, CONFIG)) ?? {};
  // An older file with the same names, which counts only when the config does not list the added tokens.
  const older =
    config.added_tokens_decoder === undefined ? await readJson(folder, "special_tokens_map.json") : undefined;
  const settings = { ...config, ...older };

  const special: Record<string, string> = {};
  const wanted: TokenValue[] = [];
  for (const [name, value] of Object.entries(settings)) {
    if (!name.endsWith("_token") || !isTokenValue(value)) continue;
    special[name] = contentOf(value);
    if (NAMED.includes(name)) wanted.push(value);
  }
  wanted.push(...listedTokens(settings.extra_special_tokens ?? settings.additional_special_tokens));
  addTokens(tokenizer, ids, config.added_tokens_decoder, wanted);
  return {
    tokenizer,
    special,
    ids,
    chatTemplates: await readChatTemplates(folder, config.chat_template),
    // As in transformers 5: off by default, and never for BPE, whose spaces it would spoil.
    cleanUp: settings.clean_up_tokenization_spaces === true && tokenizer.model.type !== "BPE",
  };
}

function addTokens(tokenizer: TokenizerJson, ids: Map<string, number>, decoder: unknown, wanted: TokenValue[]): void {
  const known = new Map(tokenizer.added_tokens.map((token) => [token.content, token]));
  let next = 0;
  for (const id of ids.values()) next = Math.max(next, id + 1);
  const add = (value: TokenValue, special: boolean) => {
    const content = contentOf(value);
    const present = known.get(content);
    if (present !== undefined) {
      present.special ||= special;
      return;
    }
    const flags = typeof value === "string" ? {} : value;
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const token = { ...plain, ...flags, id: ids.get(content) ?? next++, content, special };
    known.set(content, token);
    tokenizer.added_tokens.push(token);
    ids.set(content, token.id);
  };
  if (isObject(decoder)) {
    const listed = Object.entries(decoder).sort(([a], [b]) => Number(a) - Number(b));
    for (const [, value] of listed) if (isTokenValue(value)) add(value, isObject(value) && value.special === true);
  }
  for (const value of wanted) add(value, true);
}

function listedTokens(value: unknown): TokenValue[] {
  const list = Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
  return list.filter(isTokenValue);
}

async function readChatTemplates(folder: string, fromConfig: unknown): Promise<Map<string, TemplateSource>> {
  const templates = new Map<string, TemplateSource>();
  const add = (name: string, text: string | undefined, file: string) => {
    const source = { text: text ?? "", file: path.join(folder, file) };
    if (source.text.length > FILE_LIMITS.template) {
      throw new UserError(
        `${source.file}: a chat template of ${source.text.length} characters; the limit is ${FILE_LIMITS.template}. Is it the right file?`,
      );
    }
    if (text !== undefined) templates.set(name, source);
  };
  const read = (file: string) => readText(folder, file, FILE_LIMITS.template);
  add("default", await read(CHAT_TEMPLATE), CHAT_TEMPLATE);
  const names = await readdir(path.join(folder, CHAT_TEMPLATES)).catch(() => []);
  for (const name of names.filter((name) => name.endsWith(".jinja"))) {
    const file = path.join(CHAT_TEMPLATES, name);
    add(name.slice(0, -".jinja".length), await read(file), file);
  }
  // Files of their own take the place of what the config has.
  if (templates.size > 0) return templates;
  if (typeof fromConfig === "string") add("default", fromConfig, CONFIG);
  for (const item of Array.isArray(fromConfig) ? fromConfig : []) {
    if (isObject(item) && typeof item.name === "string" && typeof item.template === "string") {
      add(item.name, item.template, CONFIG);
    }
  }
  return templates;
}

function checkTokenizer(json: Json, file: string): TokenizerJson {
  const model = json.model;
  if (!isObject(model) || typeof model.vocab !== "object" || model.vocab === null) {
    throw new UserError(`${file}: has no model with a vocabulary, so it is no tokenizer. Copy the file again.`);
  }
  json.added_tokens ??= [];
  const added = json.added_tokens;
  const valid = (token: unknown) => isObject(token) && typeof token.content === "string" && "id" in token;
  if (!Array.isArray(added) || !added.every(valid)) {
    throw new UserError(`${file}: added_tokens must be a list of {id, content, ...}. Copy the file again.`);
  }
  return json as TokenizerJson;
}

async function missingTokenizer(folder: string): Promise<UserError> {
  const names = await readdir(folder).catch(() => undefined);
  if (names === undefined) return new UserError(`model folder ${folder}: no such folder`);
  const older = names.filter((name) =>
    /^(tokenizer\.model|vocab\.json|vocab\.txt|merges\.txt|.*\.tiktoken)$/.test(name),
  );
  const advice =
    older.length > 0
      ? `It has the older ${older.join(", ")}: save the tokenizer with transformers 5, which writes tokenizer.json.`
      : "Copy tokenizer.json (and tokenizer_config.json) of the model into it.";
  return new UserError(`model folder ${folder}: there is no tokenizer.json. ${advice}`);
}

async function readText(folder: string, name: string, limit: number): Promise<string | undefined> {
  const file = path.join(folder, name);
  try {
    return (await readRegularFile(file, limit)).toString();
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw new UserError(`${file}: cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

async function readJson(folder: string, name: string): Promise<Json | undefined> {
  const text = await readText(folder, name, FILE_LIMITS.tokenizer);
  if (text === undefined) return undefined;
  const file = path.join(folder, name);
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new UserError(`${file}: not valid JSON, perhaps cut off: ${(error as Error).message}. Copy the file again.`);
  }
  if (!isObject(value)) throw new UserError(`${file}: must hold a JSON object. Copy the file again.`);
  return value;
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isTokenValue = (value: unknown): value is TokenValue =>
  typeof value === "string" || (isObject(value) && typeof value.content === "string");
const contentOf = (value: TokenValue) => (typeof value === "string" ? value : value.content);
