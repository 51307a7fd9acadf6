import { describe, expect, it } from "vitest";
import { hasColours, paintFor, Screen, wrap, wrapItems } from "./terminal.js";

const tty = { write: () => {}, isTTY: true };
const pipe = { write: () => {} };

describe("hasColours", () => {
  it.each([
    [tty, {}, true],
    [pipe, {}, false],
    [tty, { TERM: "dumb" }, false],
    [tty, { NO_COLOR: "1" }, false],
    [tty, { NO_COLOR: "" }, true],
    [pipe, { FORCE_COLOR: "1" }, true],
    [pipe, { FORCE_COLOR: "" }, true],
    [tty, { FORCE_COLOR: "0" }, false],
    [tty, { FORCE_COLOR: "false" }, false],
    [pipe, { FORCE_COLOR: "1", NO_COLOR: "1", TERM: "dumb" }, true],
  ])("%j with %j: %s", (out, env, expected) => {
    expect(hasColours(out, env)).toBe(expected);
    expect(paintFor(out, env).green("x")).toBe(expected ? "\x1b[32mx\x1b[39m" : "x");
  });
});

describe("wrap", () => {
  it("breaks at spaces, and gives a longer word a line of its own", () => {
    expect(wrap("one two three-and-more four", 8)).toEqual(["one two", "three-and-more", "four"]);
    expect(wrap("Model       one two three", 20, 12)).toEqual(["Model       one two", "            three"]);
  });

  it("keeps items whole", () => {
    expect(wrapItems(["step 1", "loss 2", "lr 3"], 16, 2)).toEqual(["step 1 ·", "  loss 2 · lr 3"]);
  });
});

function screen(columns: number, isTTY = true, env = {}) {
  let text = "";
  const out = new Screen({ write: (piece) => (text += piece), isTTY, columns }, { FORCE_COLOR: "0", ...env });
  return { out, text: () => text };
}

describe("a screen", () => {
  it("keeps a message out of the bar, and draws the bar again below", () => {
    const { out, text } = screen(40);
    out.draw("[##]");
    out.say("Best: eval_loss 2");
    expect(text()).toBe("\r\x1b[K[##]\r\x1b[KBest: eval_loss 2\n[##]");
    out.draw("");
    out.draw("");
    out.say("over");
    expect(text().endsWith("[##]\r\x1b[Kover\n")).toBe(true);
  });

  it("wraps on a terminal only, sets labels off, and leaves commands and tables whole", () => {
    const command = "  npx slimtune generate some/folder --prompt Hello";
    const line = "Data        1,000 examples, 20,000 tokens";
    const { out, text } = screen(30);
    out.say(`${line}\n${command}`);
    expect(text()).toBe(`Data        1,000 examples,\n            20,000 tokens\n${command}\n`);
    const piped = screen(30, false);
    piped.out.say(line);
    expect(piped.text()).toBe(`${line}\n`);
    const coloured = screen(80, true, { FORCE_COLOR: "1" });
    coloured.out.say(line);
    expect(coloured.text()).toBe(`\x1b[1mData        \x1b[22m${line.slice(12)}\n`);
  });

  it("draws nothing where a line cannot be taken back", () => {
    for (const { out, text } of [screen(40, false), screen(40, true, { TERM: "dumb" })]) {
      out.draw("[##]");
      out.say("text");
      expect(text()).toBe("text\n");
    }
  });
});
