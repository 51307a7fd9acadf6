import { describe, expect, it } from "vitest";
import { CsvParser } from "./csv.js";

/** However the text is cut into pieces. */
function parse(text: string, piece = text.length) {
  const parser = new CsvParser("t.csv");
  const rows = [];
  for (let at = 0; at < text.length; at += piece) rows.push(...parser.push(text.slice(at, at + piece)));
  return [...rows, ...parser.end()].map(({ fields, line }) => [line, fields]);
}

const TEXT = 'a,b\r\n1,"x, ""y""\nz"\r\n\r\n,\n"","q"';

describe("CSV", () => {
  it.each([1, 2, 3, 7, 100])("keeps commas, quotes and ends of lines in quotes, in pieces of %d", (piece) => {
    expect(parse(TEXT, piece)).toEqual([
      [2, { a: "1", b: 'x, "y"\nz' }],
      [5, { a: "", b: "" }],
      [6, { a: "", b: "q" }],
    ]);
  });

  it("ends lines with CR alone, and has no rows without any", () => {
    expect(parse("a\r1\r2")).toEqual([
      [2, { a: "1" }],
      [3, { a: "2" }],
    ]);
    expect(parse("a,b")).toEqual([]);
    expect(parse("")).toEqual([]);
  });

  it("keeps a column named __proto__ for what it is", () => {
    expect(Object.entries(parse("__proto__\nx")[0]![1] as object)).toEqual([["__proto__", "x"]]);
  });

  it.each([
    ["a,b\n1,2,3", "t.csv:2: not valid CSV: the row has 3 values for 2 columns"],
    ['a,b\n1,2\n"x,2\n', "t.csv:4: not valid CSV: a quote begins a value that never ends"],
    ['a\nx"y"', "t.csv:2: not valid CSV: a quote stands within a value"],
    ['a\n"x"y', 't.csv:2: not valid CSV: "y" stands after the quote'],
    ["a,a\n1,2", 't.csv:1: not valid CSV: the column "a" is there twice'],
  ])("names the line of what is wrong in %j", (text, problem) => {
    expect(() => parse(text)).toThrow(problem);
  });
});
