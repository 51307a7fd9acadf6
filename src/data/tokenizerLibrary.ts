import { TextDecoder } from "node:util";
import * as library from "@huggingface/tokenizers";
import type { TokenizerJson } from "./tokenizerFiles.js";

/**
 * The part of @huggingface/tokenizers that is used. Its own declarations cannot be followed by TypeScript's NodeNext
 * resolution (their imports lack extensions), so that everything from there would be `any`.
 */
export interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[]; tokens: string[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  normalizer: ((text: string) => string) | null;
  pre_tokenizer: PreTokenizer | null;
  decoder: Decoder | null;
  model: { vocab: string[]; cache?: Cache<unknown> };
}

interface PreTokenizer {
  pattern?: RegExp;
  pre_tokenize_text?: (text: string) => string[];
  config?: { individual_digits?: boolean };
  tokenizers?: (PreTokenizer | null)[];
}

interface ByteLevel extends PreTokenizer {
  pattern: RegExp;
  use_regex: boolean;
  add_prefix_space: boolean;
}

interface Decoder {
  text_decoder?: TextDecoder;
  decoders?: (Decoder | null)[];
}

const { Tokenizer, ByteLevelPreTokenizer, DigitsPreTokenizer, ByteFallbackDecoder } = library as unknown as {
  Tokenizer: new (tokenizer: TokenizerJson, config: object) => LibraryTokenizer;
  ByteLevelPreTokenizer: new () => ByteLevel;
  DigitsPreTokenizer: new () => PreTokenizer;
  ByteFallbackDecoder: new () => Decoder;
};

/** The tokenizer of a tokenizer.json, made to give the tokens of the original library. Throws what the library throws. */
export function makeLibraryTokenizer(json: TokenizerJson): LibraryTokenizer {
  const made = new Tokenizer(json, {});
  correctPreTokenizer(made.pre_tokenizer);
  correctDecoder(made.decoder);
  // The library's own cache moves each entry to the end at each look-up, which costs more than the merges it saves.
  if (made.model.cache !== undefined) made.model.cache = new Cache();
  return made;
}

const CACHED_WORDS = 1 << 17;
const LONGEST_CACHED = 256;

/** Remembers results by word; starts over when it is full. */
class Cache<T> {
  readonly #results = new Map<string, T>();

  get(word: string): T | undefined {
    return this.#results.get(word);
  }

  put(word: string, result: T): void {
    if (this.#results.size >= CACHED_WORDS) this.#results.clear();
    this.#results.set(word, result);
  }
}

const GPT2_WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * Where the JavaScript library splits otherwise than the original: its \s has U+FEFF and lacks U+0085, and its digits are
 * 0-9 alone, where the original takes every number character (½, Ⅷ, ٣).
 */
function correctPreTokenizer(part: PreTokenizer | null): void {
  for (const child of part?.tokenizers ?? []) correctPreTokenizer(child);
  if (part instanceof ByteLevelPreTokenizer) {
    part.pattern = GPT2_WORDS;
    rememberWords(part);
  }
  if (part instanceof DigitsPreTokenizer) {
    part.pattern = part.config?.individual_digits ? /\P{N}+|\p{N}/gu : /\P{N}+|\p{N}+/gu;
  }
}

/** Spelling out the bytes of each word anew is half of the time of tokenising. */
function rememberWords(part: ByteLevel): void {
  const spell = Object.getPrototypeOf(part).pre_tokenize_text as (this: object, text: string) => string[];
  const plain = Object.create(part, { use_regex: { value: false }, add_prefix_space: { value: false } });
  const cache = new Cache<string>();
  part.pre_tokenize_text = (text) => {
    const whole = part.add_prefix_space && !text.startsWith(" ") ? ` ${text}` : text;
    const words = part.use_regex ? (whole.match(part.pattern) ?? []) : [whole];
    return words.map((word) => {
      let spelt = cache.get(word);
      if (spelt === undefined) {
        spelt = spell.call(plain, word).join("");
        if (word.length <= LONGEST_CACHED) cache.put(word, spelt);
      }
      return spelt;
    });
  };
}

/** The library's byte fallback drops a byte order mark that the model wrote. */
function correctDecoder(part: Decoder | null): void {
  for (const child of part?.decoders ?? []) correctDecoder(child);
  if (part instanceof ByteFallbackDecoder) part.text_decoder = new TextDecoder("utf-8", { ignoreBOM: true });
}
