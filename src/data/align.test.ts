import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { alignTokens, markTokens } from "./align.js";

const bytes = (text: string) => new TextEncoder().encode(text);
const surfaces = (...texts: string[]) => texts.map(bytes);

describe("alignTokens", () => {
  it("gives the start of each token and the end", () => {
    expect(alignTokens("éa b", surfaces("éa", " b"))).toEqual([0, 3, 5]);
    expect(alignTokens("", [])).toEqual([0]);
  });

  it("allows a space put before the first word and whitespace swallowed by special tokens", () => {
    expect(alignTokens("hi", surfaces(" hi"))).toEqual([0, 2]);
    expect(alignTokens("hi", surfaces(" ", "hi"))).toEqual([0, 0, 2]);
    expect(alignTokens("a \n<x>  b ", surfaces("a", "<x>", "b"))).toEqual([0, 3, 8, 9]);
  });

  it("says when the tokens do not spell the text", () => {
    expect(alignTokens("abc", surfaces("a", "<unk>", "c"))).toBeUndefined();
    expect(alignTokens("abc", surfaces("a", "b"))).toBeUndefined();
    expect(alignTokens("ab", surfaces("a", "b", "c"))).toBeUndefined();
  });
});

describe("markTokens", () => {
  it("marks from the token of the first character to the first token of the last", () => {
    const text = "ab🙂c";
    const [one, two, three, four] = bytes("🙂");
    const starts = alignTokens(text, [
      bytes("ab"),
      Uint8Array.of(one!, two!),
      Uint8Array.of(three!, four!),
      bytes("c"),
    ]);
    expect([...markTokens(text, starts!, [[1, 2]])]).toEqual([1, 0, 0, 0]);
    // As transformers does: of a character in several tokens, the last stretch takes the first.
    expect([...markTokens(text, starts!, [[0, 4]])]).toEqual([1, 1, 0, 0]);
    expect([...markTokens(text, starts!, [[2, 5]])]).toEqual([0, 1, 1, 1]);
    expect([
      ...markTokens(text, starts!, [
        [0, 0],
        [4, 5],
      ]),
    ]).toEqual([0, 0, 0, 1]);
    expect([...markTokens("hi", [0, 0, 2], [[0, 1]])]).toEqual([1, 0]);
  });

  it("marks exactly the tokens inside when stretches end where tokens end", () => {
    const pieces = fc.array(fc.record({ text: fc.string({ minLength: 1, unit: "grapheme" }), inside: fc.boolean() }));
    fc.assert(
      fc.property(pieces, (pieces) => {
        const text = pieces.map((piece) => piece.text).join("");
        const spans: [number, number][] = [];
        let at = 0;
        for (const piece of pieces) {
          if (piece.inside) spans.push([at, at + piece.text.length]);
          at += piece.text.length;
        }
        const starts = alignTokens(
          text,
          pieces.map((piece) => bytes(piece.text)),
        );
        expect([...markTokens(text, starts!, spans)]).toEqual(pieces.map((piece) => Number(piece.inside)));
      }),
    );
  });
});
