import { describe, expect, it } from "vitest";
import { formatDuration, formatLog, formatNumber } from "./logLines.js";

describe("formatLog", () => {
  it("leaves total_flos out", () => {
    expect(formatLog({ train_loss: 1.5, total_flos: 1e15 })).toBe("{'train_loss': 1.5}");
  });
});

// f"{value:.4g}" of Python 3
describe("formatNumber", () => {
  it.each([
    [2.34567, "2.346"],
    [0.00012345678, "0.0001235"],
    [0.000099999, "0.0001"],
    [0.0000999949, "9.999e-05"],
    [2e-5, "2e-05"],
    [1234.56, "1235"],
    [12345.6, "1.235e+04"],
    [9999.9, "1e+04"],
    [0.5, "0.5"],
    [-0.25, "-0.25"],
    [1e-300, "1e-300"],
    [0, "0"],
    [250, "250"],
    [Number.NaN, "nan"],
    [Number.POSITIVE_INFINITY, "inf"],
    [Number.NEGATIVE_INFINITY, "-inf"],
  ])("%s is %s", (value, text) => expect(formatNumber(value)).toBe(text));
});

describe("formatDuration", () => {
  it.each([
    [0, "0:00"],
    [59.6, "1:00"],
    [75, "1:15"],
    [3725, "1:02:05"],
  ])("%s s is %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));
});
