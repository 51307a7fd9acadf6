/** SLIMTUNE_SYNC=1: every op runs, and throws, where it is called. */
import { expect, it } from "vitest";

it("throws at the call, and goes on after it", async () => {
  process.env.SLIMTUNE_SYNC = "1"; // read when the module loads; each test file has a process of its own
  const { liveTensors, ops, scope } = await import("../../src/torch/index.js");
  const x = ops.float32([1, 2]);
  expect(await ops.matmul(x, x).item()).toBe(5);
  const before = liveTensors();
  expect(() => ops.matmul(x, ops.float32([1]))).toThrow(/^aten::matmul: .*float32\[2\], float32\[1\]/s);
  expect(liveTensors()).toBe(before + 1); // the second vector; the failed product left no handle behind
  function whereItIs() {
    scope(() => ops.add(x, ops.zeros([3])));
  }
  expect(whereItIs).toThrow("aten::add.Tensor");
  try {
    whereItIs();
  } catch (error) {
    expect((error as Error).stack).toContain("whereItIs");
  }
  expect(Array.from(await x.values(), Number)).toEqual([1, 2]);
});
