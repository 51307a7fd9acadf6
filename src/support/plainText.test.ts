import { describe, expect, it } from "vitest";
import { UserError } from "./errors.js";
import { quoteName, shown } from "./plainText.js";

describe("shown", () => {
  it.each([
    ["plain text, größer 🙂👩‍🚀 \n and \t a tab", undefined],
    ["\x1b]0;title\x07\x1b[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J"],
    ["over\rwritten\b", "over\\u{d}written\\u{8}"],
    ["\x9b31m and \x7f", "\\u{9b}31m and \\u{7f}"],
    ["txt.\u202Eexe\u2066", "txt.\\u{202e}exe\\u{2066}"],
  ])("%j", (text, expected) => {
    expect(shown(text)).toBe(expected ?? text);
    expect(shown(shown(text))).toBe(shown(text));
  });
});

it("quotes and shortens names", () => {
  expect(quoteName('a"\x1b\u202E')).toBe('"a\\"\\u001b\\u{202e}"');
  expect(quoteName("x".repeat(200))).toBe(`"${"x".repeat(100)}…"`);
});

it("is what the message of every UserError goes through", () => {
  const error = new UserError("model: \x1b[2J\nnext line", { cause: new Error("\x1b") });
  expect(error.message).toBe("model: \\u{1b}[2J\nnext line");
  expect(error.stack).not.toContain("\x1b");
});
