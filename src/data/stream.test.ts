import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, it } from "vitest";
import { StreamDecoder } from "./stream.js";
import { Tokenizer } from "./tokenizer.js";

const tokenizer = await Tokenizer.load(fileURLToPath(new URL("../../tests/fixtures/tiny-llama", import.meta.url)));

it("hands out whole characters only", () => {
  const ids = tokenizer.encode("é🙂!");
  expect(ids.length).toBeGreaterThan(4);
  const decoder = tokenizer.streamDecoder();
  const parts = ids.map((id) => decoder.push(id));
  expect(parts.filter((part) => part !== "")).toEqual(["é", "🙂", "!"]);
  expect(decoder.flush()).toBe("");
});

it("gives the text of all tokens, for any tokens", () => {
  const ids = fc.array(fc.integer({ min: 0, max: tokenizer.vocabSize - 1 }));
  fc.assert(
    fc.property(ids, fc.boolean(), (ids, skipSpecialTokens) => {
      const decoder = tokenizer.streamDecoder({ skipSpecialTokens });
      const text = ids.map((id) => decoder.push(id)).join("") + decoder.flush();
      expect(text).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
    }),
  );
});

it("shows bytes that never became a character at the end", () => {
  const decoder = tokenizer.streamDecoder();
  expect(decoder.push(tokenizer.encode("🙂")[0]!)).toBe("");
  expect(decoder.flush()).toBe("\uFFFD");
});

it("keeps the space of a word whose tokenizer drops the first space of a text", () => {
  // As SentencePiece decodes: ids are words, each with a space before it; the first space goes. 0 is skipped.
  const words = ["", " one", " two", " three"];
  const decoder = new StreamDecoder((ids) =>
    ids
      .map((id) => words[id])
      .join("")
      .replace(/^ /, ""),
  );
  expect([1, 0, 2, 3].map((id) => decoder.push(id))).toEqual(["one", "", " two", " three"]);
});
