/** Against `ReadInstruction` of Python's datasets 5.2 on a split of so many rows. */
import { expect, it } from "vitest";
import { parseSplit, splitProblem } from "./splitSlice.js";

const rows = (split: string, count: number) =>
  parseSplit(split).map(({ name, slice }) => [name, slice?.(count)] as const);

it.each<[string, number, [number, number]]>([
  ["train[:80%]", 10, [0, 8]],
  ["train[:80%]", 21, [0, 17]],
  ["train[80%:]", 21, [17, 21]],
  ["train[10%:50%]", 25, [2, 12]],
  ["train[50%:]", 3, [2, 3]],
  ["train[:50%]", 5, [0, 2]],
  ["train[:50%]", 7, [0, 4]],
  ["train[-10%:]", 21, [19, 21]],
  ["train[:-5%]", 30, [0, 28]],
  ["train[100:]", 21, [21, 21]],
  ["train[:100]", 21, [0, 21]],
  ["train[-3:]", 21, [18, 21]],
  ["train[:-30]", 21, [0, 0]],
  ["train[1_0:20]", 21, [10, 20]],
  ["train[:33%](pct1_dropremainder)", 250, [0, 66]],
  ["train[33%:66%](closest)", 250, [82, 165]],
  ["train[:]", 4, [0, 4]],
  ["train[2:-2]", 9, [2, 7]],
])("%s of %d rows", (split, count, expected) => {
  expect(rows(split, count)).toEqual([["train", expected]]);
});

it("takes a name alone, a slice alone, and sums", () => {
  expect(rows("validation", 5)).toEqual([["validation", undefined]]);
  expect(rows("[:2]", 5)).toEqual([[undefined, [0, 2]]]);
  expect(rows("train[:10%] + test[90%:]", 30)).toEqual([
    ["train", [0, 3]],
    ["test", [27, 30]],
  ]);
});

it.each([
  ["train[:80", /is no split; write train, train\[:80%\]/],
  ["train[5]", /is no split/],
  ["train+", /is no split/],
  ["train[:101%]", /has 101%, and there are 100/],
  ["train[:5](closest)", /rounds by "closest", and percentages are/],
  ["train[:5%](up)", /rounds by "up"/],
  ["train(closest)", /rounds a slice that it does not have/],
])("refuses %s", (split, problem) => {
  expect(splitProblem(split)).toMatch(problem);
});
