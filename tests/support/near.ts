import { expect } from "vitest";

const most = (values: number[]) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

/** Expects each number to be near its counterpart, by the size of the biggest one. */
export function expectNear(name: string, actual: number[], expected: number[], tolerance: number): void {
  expect(actual).toHaveLength(expected.length);
  expect(actual.some(Number.isNaN), name).toBe(false);
  const difference = most(expected.map((value, i) => value - actual[i]!));
  expect(difference / Math.max(most(expected), 1e-3), name).toBeLessThan(tolerance);
}
