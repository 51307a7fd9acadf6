import { describe, expect, it } from "vitest";
import { parsePagingArguments } from "./optimArgs.js";

describe("parsePagingArguments", () => {
  it.each([
    [null, undefined],
    ["", undefined],
    ["page_budget=64MiB", 64 * 2 ** 20],
    [" page_budget = 1.5GB ", 1.5e9],
    ["page_budget=2097152", 2097152],
  ])("reads %j", (text, bytes) => expect(parsePagingArguments(text).page_budget).toBe(bytes));

  it.each([
    ["page_budgit=1GB", /unknown name 'page_budgit' \(did you mean "page_budget"\?\)/],
    ["page_budget=lots", /page_budget is 'lots'/],
    ["page_budget=10", /at least 1MiB/],
  ])("refuses %j", (text, message) => expect(() => parsePagingArguments(text)).toThrow(message));
});
