import { describe, expect, it } from "vitest";
import { z } from "zod";
import { datasetEntries, datasetSchema } from "./config.js";

const complaint = (value: unknown): string => {
  const result = datasetSchema.safeParse(value);
  if (result.success) throw new Error("was accepted");
  return result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("\n");
};

describe("datasetSchema", () => {
  it("takes a path, a mapping and a list of both", () => {
    expect(datasetEntries("a.jsonl")).toEqual([{ path: "a.jsonl", format: "auto" }]);
    const columns = { prompt: "question", completion: "answer" };
    expect(datasetEntries({ path: "a.jsonl", columns, weight: 1 })).toEqual([
      { path: "a.jsonl", format: "auto", columns, weight: 1 },
    ]);
    expect(datasetEntries(["a.jsonl", { path: "b.json", format: "alpaca" }])).toEqual([
      { path: "a.jsonl", format: "auto" },
      { path: "b.json", format: "alpaca" },
    ]);
    expect(datasetSchema.parse(["a.jsonl", { path: "b.json" }])).toEqual([
      "a.jsonl",
      { path: "b.json", format: "auto" },
    ]);
  });

  it("names the misspelt key and the nearest valid one", () => {
    expect(complaint({ path: "a", colums: {} })).toContain('has no key "colums" (did you mean "columns"?)');
    expect(complaint({ path: "a", columns: { promt: "q" } })).toContain(
      'columns: has no key "promt" (did you mean "prompt"?)',
    );
    expect(complaint(["a", { path: "a", fromat: "text" }])).toContain('has no key "fromat" (did you mean "format"?)');
  });

  it("says what is wrong with a value, and where", () => {
    expect(complaint(3)).toContain("must be a path, a mapping");
    expect(complaint(3)).toContain("not 3");
    expect(complaint("")).toContain("must not be empty");
    expect(complaint([])).toContain("needs at least one dataset");
    expect(complaint(["a", 3])).toContain("[1]: must be a path");
    expect(complaint({ format: "text" })).toContain("path: ");
    expect(complaint({ path: "a", format: "csv" })).toMatch(/format: .*sharegpt/);
  });

  it("refuses what is not built, with the reason", () => {
    expect(complaint({ path: "a", weight: 0.5 })).toContain("weight: other than 1 is not built yet");
  });

  it("makes a JSON Schema with help for every key", () => {
    const text = JSON.stringify(z.toJSONSchema(datasetSchema, { io: "input" }));
    for (const key of ["path", "name", "split", "format", "columns", "weight", "instruction"]) {
      expect(text).toMatch(new RegExp(`"${key}":\\{[^{}]*"description"|"description":[^{}]*"${key}"`));
    }
  });
});
