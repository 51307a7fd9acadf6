/** PyTorch's generators: the same numbers for the same seed, and a state that can be read, kept and set. */
import { afterEach, describe, expect, it } from "vitest";
import { epochOrder } from "../../src/data/order.js";
import { opInPlace } from "../../src/torch/dispatch.js";
import {
  flush,
  liveTensors,
  loadNative,
  manualSeed,
  ops,
  RandomGenerator,
  rngState,
  setRngState,
  type Tensor,
} from "../../src/torch/index.js";
import { readGoldenJson } from "../support/goldens.js";

interface Draws {
  seed: number;
  random_int64: string[];
  rand_3: number[];
  uniform_20: number[];
  normal_3: number[];
  normal_20: number[];
  "dropout_0.1_of_24_ones": number[];
  randperm_5: number[];
  random_int64_after: string;
}
interface Order {
  draws: Draws[];
  random: { n: number; seed: number; epochs: number[][] }[];
}
const golden = readGoldenJson<Order>("order.json");
const native = loadNative();

async function read(x: Tensor): Promise<(number | bigint)[]> {
  const values = Array.from<number | bigint>((await x.values()) as Float32Array);
  x.dispose();
  return values;
}
const drawn = (shape: number[], draw: (x: Tensor) => void, dtype: "float32" | "int64" = "float32") => {
  const x = ops.empty(shape, dtype);
  draw(x);
  return read(x);
};

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

describe.each(golden.draws)("seed $seed", (expected) => {
  /** All draws of the golden, in its order. */
  async function drawAll() {
    const integer = async () => String((await drawn([], (x) => ops.random_(x), "int64"))[0]);
    return {
      seed: expected.seed,
      random_int64: [await integer(), await integer(), await integer()],
      rand_3: await drawn([3], (x) => ops.uniform_(x, 0, 1)),
      uniform_20: await drawn([20], (x) => ops.uniform_(x, -0.125, 0.125)),
      normal_3: await drawn([3], (x) => ops.normal_(x, 0, 1)),
      normal_20: await drawn([20], (x) => ops.normal_(x, 0, 1)),
      "dropout_0.1_of_24_ones": (await drawn([24], (x) => ops.bernoulli_(x, 0.9))).map((one) =>
        Math.fround(Number(one) / 0.9),
      ),
      random_int64_after: "",
      integer,
    };
  }

  it("gives PyTorch's numbers", async () => {
    manualSeed(expected.seed);
    const actual = await drawAll();
    for (const key of [
      "random_int64",
      "rand_3",
      "uniform_20",
      "normal_3",
      "normal_20",
      "dropout_0.1_of_24_ones",
    ] as const) {
      expect(actual[key], key).toEqual(expected[key]);
    }
    expect((await read(ops.randperm(5))).map(Number)).toEqual(expected.randperm_5);
    expect(await actual.integer()).toBe(expected.random_int64_after);
  });

  it("gives them again from a kept state, in the middle of a normal pair too", async () => {
    manualSeed(expected.seed);
    await drawn([1], (x) => ops.normal_(x, 0, 1)); // the second of the pair waits in the state
    const state = await rngState();
    expect(state).toHaveLength(5056);
    const first = await drawn([21], (x) => ops.normal_(x, 0, 1));
    manualSeed(0);
    setRngState(state);
    expect(await rngState()).toEqual(state);
    expect(await drawn([21], (x) => ops.normal_(x, 0, 1))).toEqual(first);
  });
});

describe("named generators", () => {
  it.each(golden.random)("order $n rows with seed $seed", async ({ n, seed, epochs }) => {
    for (const [epoch, order] of epochs.entries()) {
      const actual = await epochOrder(n, epoch, { seed, data_seed: null, train_sampling_strategy: "random" });
      expect(Array.from(actual), `epoch ${epoch}`).toEqual(order);
    }
  });

  it("draw nothing from the default one, and have states of their own", async () => {
    manualSeed(3);
    const before = await rngState();
    const [a, b] = [new RandomGenerator(5), new RandomGenerator(5)];
    const first = await drawn([4], (x) => opInPlace("aten::uniform_", x, 0, 1, a.handle));
    native.setRngState(await native.getRngState(a.handle), b.handle);
    expect(await drawn([4], (x) => opInPlace("aten::uniform_", x, 0, 1, b.handle))).toEqual(
      await drawn([4], (x) => opInPlace("aten::uniform_", x, 0, 1, a.handle)),
    );
    native.manualSeed(5, a.handle);
    expect(await drawn([4], (x) => opInPlace("aten::uniform_", x, 0, 1, a.handle))).toEqual(first);
    expect(await rngState()).toEqual(before);
    a.dispose();
    b.dispose();
    expect(() => a.dispose()).toThrow("no such generator");
    expect(() => native.manualSeed(1, a.handle)).toThrow("manualSeed: generator: no such generator");
  });
});

describe("states that are none", () => {
  it("are refused and change nothing", async () => {
    manualSeed(11);
    const state = await rngState();
    expect(() => setRngState(state.subarray(1))).toThrow("a generator's state has 5056 bytes, got 5055");
    expect(() => setRngState(new Uint8Array(5056))).toThrow("these bytes are no generator's state");
    const beyond = state.slice(); // more draws left than the table has from `next` on: reads past its end
    new DataView(beyond.buffer).setInt32(8, 600, true);
    new DataView(beyond.buffer).setBigUint64(16, 600n, true);
    expect(() => setRngState(beyond)).toThrow("these bytes are no generator's state");
    expect(await rngState()).toEqual(state);
  });

  it("seeds are whole numbers", () => {
    expect(() => manualSeed(1.5)).toThrow("manualSeed: seed: expected an integer");
    expect(() => new RandomGenerator(Number.NaN)).toThrow("createGenerator: seed: expected an integer");
  });
});
