import { describe, expect, it } from "vitest";
import { passesOf } from "./passes.js";

const rows = (...lengths: number[]) => lengths.map((length) => ({ inputIds: new Int32Array(length) }));
const sizes = (passes: { inputIds: Int32Array }[][][]) =>
  passes.map((parts) => parts.map((part) => part.map(({ inputIds }) => inputIds.length)));

describe("passesOf", () => {
  const window = [rows(3, 4), rows(5), rows(2), rows(9), rows(1)];

  it("puts neighbours together as long as they fit", () => {
    expect(sizes(passesOf(window, 12))).toEqual([
      [[3, 4], [5]],
      [[2], [9], [1]],
    ]);
    expect(sizes(passesOf(window, 11))).toEqual([[[3, 4]], [[5], [2]], [[9], [1]]]);
  });

  it("keeps each by itself without room, and never parts one", () => {
    expect(sizes(passesOf(window, 0))).toEqual([[[3, 4]], [[5]], [[2]], [[9]], [[1]]]);
  });
});
