import { describe, expect, it } from "vitest";
import { didYouMean, nearestName } from "./nearest.js";

describe("nearestName", () => {
  const names = ["learning_rate", "logging_steps", "max_steps", "save_steps"];

  it.each([
    ["learning_rat", "learning_rate"],
    ["learnign_rate", "learning_rate"],
    ["learningRate", "learning_rate"],
    ["max-step", "max_steps"],
    ["loging_steps", "logging_steps"],
  ])("%s is nearest to %s", (typed, name) => expect(nearestName(typed, names)).toBe(name));

  it("does not guess when nothing is close", () => {
    expect(nearestName("xyzzy", names)).toBeUndefined();
    expect(didYouMean("xyzzy", names)).toBe("");
  });

  it("has no answer without names", () => {
    expect(nearestName("x", [])).toBeUndefined();
    expect(didYouMean("x", [])).toBe("");
  });
});
