import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import type { TokenizerJson } from "./tokenizerFiles.js";
import { checkVocabulary } from "./vocabulary.js";

const bpe = (vocab: unknown, more: object = {}, added: unknown[] = []) =>
  ({ added_tokens: added, model: { type: "BPE", vocab, merges: [], ...more } }) as TokenizerJson;
const added = (content: string, id: unknown) => ({ content, id, special: true });

const check = (json: TokenizerJson) => {
  try {
    checkVocabulary(json, "f/tokenizer.json");
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return (error as Error).message;
  }
  return "good";
};

describe("a vocabulary", () => {
  it.each<[string, TokenizerJson]>([
    ["with merges in both spellings", bpe({ a: 0, b: 1, ab: 2, abb: 3 }, { merges: ["a b", ["ab", "b"]] })],
    [
      "with a prefix for what goes on a word",
      bpe({ a: 0, "##b": 1, ab: 2 }, { merges: ["a ##b"], continuing_subword_prefix: "##" }),
    ],
    [
      "with added tokens in it and behind it",
      bpe({ a: 0, "<s>": 1 }, {}, [added("<s>", 1), added("<t>", 2), added("<t>", 2)]),
    ],
    ["with gaps", bpe({ a: 0, b: 7 })],
    ["of names that objects have", bpe(JSON.parse('{"__proto__": 0, "constructor": 1}'))],
    [
      "with scores",
      {
        added_tokens: [],
        model: {
          type: "Unigram",
          vocab: [
            ["a", -1],
            ["b", -2.5],
          ],
        },
      },
    ],
    ["without merges, of another type", { added_tokens: [], model: { type: "WordPiece", vocab: { a: 0 } } }],
  ])("is taken: %s", (_, json) => {
    expect(check(json)).toBe("good");
  });

  it.each<[string, TokenizerJson, string]>([
    [
      "a broken number",
      bpe({ a: 0, b: 0.5 }),
      'model.vocab gives "b" the id 0.5, which is no whole number from 0 to 16777215',
    ],
    ["a text", bpe({ a: "0" }), 'model.vocab gives "a" the id \\"0\\", which is no whole number'],
    ["null", bpe({ a: null }), 'model.vocab gives "a" the id null'],
    ["a negative number", bpe({ a: -1 }), 'model.vocab gives "a" the id -1'],
    ["a number beyond all", bpe({ a: 2 ** 31 }), 'model.vocab gives "a" the id 2147483648'],
    ["the same number twice", bpe({ a: 0, b: 0 }), 'model.vocab gives "b" the id 0, which is that of "a"'],
    ["a broken number, added", bpe({ a: 0 }, {}, [added("<s>", 1.5)]), 'added_tokens gives "<s>" the id 1.5'],
    ["a negative number, added", bpe({ a: 0 }, {}, [added("<s>", -3)]), 'added_tokens gives "<s>" the id -3'],
    [
      "another's number, added",
      bpe({ a: 0 }, {}, [added("<s>", 0)]),
      'added_tokens gives "<s>" the id 0, which is that of "a"',
    ],
    [
      "another number than before",
      bpe({ a: 0, "<s>": 1 }, {}, [added("<s>", 2)]),
      'added_tokens gives "<s>" the id 2, but model.vocab gives it 1',
    ],
    ["nothing at all", bpe({}), "model.vocab is empty"],
    ["a list in BPE", bpe([["a", 0]]), 'model.vocab is a list, which a tokenizer of the type \\"BPE\\" has not'],
    [
      "a score that is none",
      { added_tokens: [], model: { type: "Unigram", vocab: [["a", 0], ["b"]] } } as never,
      'model.vocab[1] is [\\"b\\"], not a piece and its score',
    ],
    ["no merges", bpe({ a: 0 }, { merges: undefined }), "model.merges must be a list"],
    ["a merge of three", bpe({ a: 0 }, { merges: ["a a a"] }), 'model.merges has \\"a a a\\", which is no pair'],
    [
      "a merge of a token that is not there",
      bpe({ a: 0, ac: 1 }, { merges: ["a c"] }),
      'model.merges has \\"a c\\", but model.vocab has no token "c"',
    ],
    [
      "a merge to a token that is not there",
      bpe({ a: 0, c: 1 }, { merges: [["a", "c"]] }),
      'but model.vocab has no token "ac"',
    ],
    ["a name of control characters", bpe({ "\x1b[2J": -1 }), 'model.vocab gives "\\u001b[2J" the id -1'],
  ])("is refused: %s", (_, json, message) => {
    const text = check(json);
    expect(text).toContain(message);
    expect(text).toMatch(/^f\/tokenizer\.json: .*\. Copy the file again\.$/);
  });
});
