/**
 * A stand-in for SmolLM2's tokenizer: digits one by one, each frequent word of a text one token, any other word its
 * bytes. It cuts English into about as many tokens as a trained vocabulary does, and is made in a second.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]; // with SmolLM2's ids
const words = 16_384;

/** What the pre-tokenizers below split at: digits, then GPT-2's pattern. */
const pieces = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** GPT-2's visible character for each byte: printable bytes stand for themselves, the others move to U+0100 and up. */
const byteCharacters = (() => {
  const printable = (byte) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

/** Every text in the rows of a JSONL file. */
export function readTexts(file) {
  const rows = readFileSync(file, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return rows.flatMap((row) => Object.values(row).filter((value) => typeof value === "string"));
}

function frequentWords(texts) {
  const counts = new Map();
  for (const text of texts) {
    for (const part of text.split(/\p{N}/u)) {
      for (const [piece] of part.matchAll(pieces)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
    }
  }
  return [...counts]
    .filter(([piece]) => Buffer.byteLength(piece) > 1)
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .slice(0, words)
    .map(([piece]) => [...Buffer.from(piece)].map((byte) => byteCharacters[byte]).join(""));
}

/** Writes tokenizer.json and tokenizer_config.json for a model of `vocabSize` embeddings. */
export function writeTokenizer(folder, texts, vocabSize) {
  const tokens = [...specials, ...byteCharacters, ...frequentWords(texts)];
  if (tokens.length > vocabSize) throw new Error(`${tokens.length} tokens for ${vocabSize} embeddings`);
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, id) => ({
      ...{ id, content, special: true },
      ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
    })),
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel] },
    post_processor: null,
    decoder: byteLevel,
    model: {
      ...{ type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null },
      ...{ fuse_unk: false, byte_fallback: false },
      ignore_merges: true, // a word of the vocabulary is one token
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...{ bos_token: specials[0], eos_token: specials[0], unk_token: specials[0], pad_token: specials[2] },
    clean_up_tokenization_spaces: false,
    model_max_length: 8192,
  };
  writeFileSync(join(folder, "tokenizer.json"), `${JSON.stringify(tokenizer, null, 1)}\n`);
  writeFileSync(join(folder, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
}
