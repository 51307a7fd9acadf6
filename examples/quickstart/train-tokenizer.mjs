/**
 * Trains a byte-level BPE tokenizer and writes it in Hugging Face's format.
 *
 * Byte-level: every byte is a token of its own, so no text is unknown. Training merges the most frequent pair of
 * neighbouring tokens, again and again (Sennrich et al. 2016); ties go to the pair that was made first.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const vocabSize = 1024;
/** <|im_start|> and <|im_end|> are for who fine-tunes the model on conversations. */
const specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"];
const maxLength = 512;

/**
 * Words, numbers, punctuation and spaces each stand alone. A word is then the same token in a sentence, in quotes and
 * at the start of a line, so that copying it is no translation: what a small model must learn first.
 */
const chunkPattern = "\\p{L}+|\\p{N}+|[^\\s\\p{L}\\p{N}]+|\\s+";
const chunks = new RegExp(chunkPattern, "gu");

/** GPT-2's visible character for each byte: printable bytes stand for themselves, the others move to U+0100 and up. */
function byteCharacters() {
  const printable = (byte) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

/** How often each chunk occurs, as byte characters. */
function countChunks(texts) {
  const characters = byteCharacters();
  const counts = new Map();
  for (const text of texts) {
    for (const [chunk] of text.matchAll(chunks)) counts.set(chunk, (counts.get(chunk) ?? 0) + 1);
  }
  return [...counts].map(([chunk, count]) => ({
    symbols: [...Buffer.from(chunk)].map((byte) => characters[byte]),
    count,
  }));
}

/** The most frequent pair of neighbours; among equals the one whose tokens have the lowest ids. */
function bestPair(chunksLeft, ids) {
  const counts = new Map();
  for (const { symbols, count } of chunksLeft) {
    for (let i = 0; i + 1 < symbols.length; i++) {
      const key = ids.get(symbols[i]) * vocabSize + ids.get(symbols[i + 1]);
      counts.set(key, (counts.get(key) ?? 0) + count);
    }
  }
  let best;
  for (const [key, count] of counts) {
    if (!best || count > best.count || (count === best.count && key < best.key)) best = { key, count };
  }
  return best;
}

/** Joins every occurrence of [left, right] in a chunk, from the left. */
function merge(symbols, left, right) {
  const merged = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      merged.push(left + right);
      i++;
    } else {
      merged.push(symbols[i]);
    }
  }
  return merged;
}

/** The vocabulary (special tokens first, then bytes, then merges) and the merges in order. */
function trainBpe(texts) {
  const tokens = [...specials, ...byteCharacters().sort()];
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges = [];
  let chunksLeft = countChunks(texts);
  while (tokens.length < vocabSize) {
    chunksLeft = chunksLeft.filter(({ symbols }) => symbols.length > 1);
    const best = bestPair(chunksLeft, ids);
    if (!best || best.count < 2) {
      throw new Error(`The text is too small for a vocabulary of ${vocabSize}: it ends at ${tokens.length}.`);
    }
    const left = tokens[Math.floor(best.key / vocabSize)];
    const right = tokens[best.key % vocabSize];
    merges.push([left, right]);
    ids.set(left + right, tokens.length);
    tokens.push(left + right);
    for (const chunk of chunksLeft) chunk.symbols = merge(chunk.symbols, left, right);
  }
  return { vocab: Object.fromEntries(ids), merges };
}

function tokenizerJson({ vocab, merges }) {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: chunkPattern }, behavior: "Isolated", invert: false },
        byteLevel,
      ],
    },
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}

const tokenizerConfig = {
  tokenizer_class: "PreTrainedTokenizerFast",
  bos_token: null,
  eos_token: specials[0],
  pad_token: specials[3],
  unk_token: null,
  clean_up_tokenization_spaces: false,
  model_max_length: maxLength,
};

/** Writes tokenizer.json and tokenizer_config.json to a model folder. */
export function writeTokenizer(folder, texts) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "tokenizer.json"), `${JSON.stringify(tokenizerJson(trainBpe(texts)), null, 1)}\n`);
  writeFileSync(join(folder, "tokenizer_config.json"), `${JSON.stringify(tokenizerConfig, null, 2)}\n`);
}
