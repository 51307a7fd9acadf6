/** Too little memory is one failed op like any other, told by its code. */
import { afterEach, expect, it } from "vitest";
import {
  backward,
  clearGrad,
  flush,
  fused,
  gradOf,
  isOutOfMemory,
  liveTensors,
  loadNative,
  ops,
  scope,
  setRequiresGrad,
  type Tensor,
} from "../../src/torch/index.js";
import { nativePath, start } from "./support.js";

const native = loadNative();
const rejection = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error) => error,
  );
/** Nothing of it is kept. */
const run = (body: () => unknown) => scope(() => void body());
const made: Tensor[] = [];
const filled = (count: number, shape: number[]) => {
  const tensor = ops.float32(new Float32Array(count).fill(0.5), shape);
  made.push(tensor);
  return tensor;
};

afterEach(async () => {
  native.failAllocation(0);
  native.setEager(false);
  for (const tensor of made.splice(0)) tensor.dispose();
  await flush();
  expect(liveTensors()).toBe(0);
});

it("fails the allocation that is asked for, once", async () => {
  const [x, y] = [filled(4, [4]), filled(4, [4])];
  await flush();
  native.failAllocation(2);
  run(() => ops.add(ops.add(x, y), y));
  const error = await rejection(flush());
  expect(isOutOfMemory(error)).toBe(true);
  expect(error.message).toBe(
    "aten::add.Tensor: CPU out of memory, as failAllocation asked for. Tried to allocate 16 bytes. (inputs: float32[4], float32[4])",
  );
  run(() => ops.add(ops.add(x, y), y));
  await flush();
  native.failAllocation(1);
  native.failAllocation(0);
  run(() => ops.add(x, y));
  await flush();
});

it("counts from after the ops so far", async () => {
  const x = filled(4, [4]);
  run(() => {
    for (let i = 0; i < 20; i++) ops.add(x, x);
    native.failAllocation(1);
  });
  await flush();
  run(() => ops.add(x, x));
  expect(isOutOfMemory(await rejection(flush()))).toBe(true);
});

it("tells of a tensor that no memory holds, and of a size that is none", async () => {
  run(() => ops.empty([2 ** 40, 2 ** 10]));
  const error = await rejection(flush());
  expect(isOutOfMemory(error)).toBe(true);
  expect(error.message).toMatch(/CPU out of memory\. Tried to allocate 4294967296 MiB\./);
  run(() => ops.empty([2 ** 52, 2 ** 50]));
  const impossible = await rejection(flush());
  expect(impossible).toBeInstanceOf(Error);
  expect(isOutOfMemory(impossible)).toBe(false);
});

it("is told where a call does its work at once", () => {
  native.failAllocation(1);
  const failed = (body: () => void) => {
    try {
      body();
    } catch (error) {
      return error;
    }
  };
  expect(isOutOfMemory(failed(() => ops.float32([1])))).toBe(true);
  const x = filled(4, [4]);
  native.setEager(true);
  native.failAllocation(1);
  expect(isOutOfMemory(failed(() => ops.add(x, x)))).toBe(true);
});

it("passes through a backward pass and through parallel work, and leaves both as they were", async () => {
  const x = filled(300 * 64, [300, 4, 16]);
  setRequiresGrad(x, true);
  const pass = () => run(() => backward(ops.sum(fused.packedAttention(x, x, x, [120, 100, 80]))));
  const gradient = () => {
    const found = gradOf(x);
    made.push(found);
    return found.values();
  };
  pass();
  const expected = await gradient();
  clearGrad(x);
  let failures = 0;
  for (;;) {
    native.failAllocation(failures + 1);
    pass();
    const error = await rejection(flush());
    native.failAllocation(0);
    if (!error) break;
    expect(isOutOfMemory(error)).toBe(true);
    failures++;
    clearGrad(x);
  }
  expect(failures).toBeGreaterThan(5);
  expect(await gradient()).toEqual(expected);
});

it("is none of the other failures", async () => {
  const [x, y] = [filled(4, [4]), filled(3, [3])];
  run(() => ops.add(x, y));
  expect(isOutOfMemory(await rejection(flush()))).toBe(false);
  for (const other of [undefined, null, "SLIMTUNE_OUT_OF_MEMORY", { code: "SLIMTUNE_OUT_OF_MEMORY" }, new Error()]) {
    expect(isOutOfMemory(other)).toBe(false);
  }
  const cause = Object.assign(new Error(), { code: "SLIMTUNE_OUT_OF_MEMORY" });
  expect(isOutOfMemory(cause)).toBe(true);
  expect(isOutOfMemory(new Error("the run ended", { cause }))).toBe(false);
});

it.skipIf(process.platform !== "linux")("is one clear error when threads cannot be started", async () => {
  const env = { OMP_NUM_THREADS: "400", MKL_NUM_THREADS: "400", MKL_DYNAMIC: "FALSE" };
  const { code, stderr } = await start("load.child.mjs", [nativePath], { env, addressSpace: 2_500_000 }).ended;
  expect(stderr).toMatch(/Error: only \d+ of 400 threads could be started \(.*\): raise the limits on memory and on /);
  expect(stderr).not.toContain("libgomp"); // which says less, and ends the process in the middle of its work
  expect(code).toBe(1);
});
