import { expect, it } from "vitest";
import { bounded } from "./bounded.js";

it("gives what the work gives, and ends a pattern that does not", () => {
  expect(bounded("m", () => [1, 2])).toEqual([1, 2]);
  expect(() =>
    bounded("m", () => {
      throw new TypeError("its own");
    }),
  ).toThrow(TypeError);
  const begun = performance.now();
  expect(() => bounded("m", () => /(a+)+$/.test(`${"a".repeat(60)}b`), 0.2)).toThrow(/^model: m: its tokenizer.*0.2 s/);
  expect(performance.now() - begun).toBeLessThan(5000);
});
