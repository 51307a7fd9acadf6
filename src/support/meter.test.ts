import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { fakeOutput } from "../../tests/setup/fakes.js";
import { createMeter, formatBytes, formatSeconds } from "./meter.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("on a terminal: a bar that is redrawn in place, at most ten times a second, and goes away", () => {
  const out = fakeOutput(true);
  const progress = createMeter("Fetching", formatBytes, out);
  vi.advanceTimersByTime(10_000);
  progress.update(25e6, 100e6);
  progress.update(26e6, 100e6);
  expect(out.text).toBe("\r\x1b[KFetching [#####---------------] 25.0 MB of 100.0 MB, 30 s left");
  progress.end();
  expect(out.text.endsWith("\r\x1b[K")).toBe(true);
});

test("elsewhere: a plain line every ten seconds, without a total too", () => {
  const out = fakeOutput();
  const progress = createMeter("Fetching", formatBytes, out);
  progress.update(1e6);
  vi.advanceTimersByTime(10_000);
  progress.update(2e6);
  progress.update(3e6);
  vi.advanceTimersByTime(10_000);
  progress.update(50e6, 100e6);
  progress.end();
  expect(out.text).toBe("Fetching: 2.0 MB\nFetching: 50.0 MB of 100.0 MB, 20 s left\n");
});

test("amounts", () => {
  expect([950, 12_345_678, 2.5e9].map(formatBytes)).toEqual(["1 kB", "12.3 MB", "2.50 GB"]);
  expect([Math.PI, 42.4, 119.7, 154].map(formatSeconds)).toEqual(["3.1 s", "42 s", "2 min 0 s", "2 min 34 s"]);
});
