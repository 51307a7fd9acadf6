/** An optimizer tells of a weight or state that its update made and that is not finite, wherever that is. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ADAM, type Choice, makeOptimizer, scatter } from "../../tests/support/optimizers.js";
import { elementCount } from "../support/shape.js";
import { flush, isOutOfMemory, keep, liveTensors, loadNative, ops, scope } from "../torch/index.js";
import { OPTIMIZER_NAMES } from "./catalogue.js";
import { diskTier } from "./pageTiers.js";
import { PagedStateMemory, PlainStateMemory } from "./stateMemory.js";

const folder = mkdtempSync(join(tmpdir(), "slimtune-nonfinite-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const SHAPES = [
  { name: "layers.0.weight", shape: [131, 260] },
  { name: "layers.1.weight", shape: [77, 90] },
  { name: "layers.2.weight", shape: [3, 7] },
  { name: "norm.weight", shape: [41] },
] as const;
const LARGEST = 3.4e38;

interface Update {
  /** [parameter, element, its weight, its gradient] */
  odd?: [number, number, number, number];
  lr?: number;
  gradients?: (count: number) => Float32Array;
}

/** Makes updates from fresh weights, one optimizer for all; gives what it said of each. */
async function told(choice: Choice, updates: Update[]): Promise<boolean[]> {
  const parameters = SHAPES.map(({ name, shape }) => ({
    name,
    role: name === "norm.weight" ? ("norm" as const) : ("matrix" as const),
    shape,
    tensor: keep(ops.zeros([...shape])),
  }));
  const paged = choice.optim.startsWith("paged_");
  const memory = paged ? new PagedStateMemory(diskTier(folder), undefined) : new PlainStateMemory("cpu");
  const optimizer = makeOptimizer(parameters, choice, memory);
  const said: boolean[] = [];
  for (const { odd, lr = 1e-2, gradients = (count: number) => scatter(count, count) } of updates) {
    scope(() => {
      const made = parameters.map(({ shape, tensor }, index) => {
        const count = elementCount(shape);
        const [weight, gradient] = [scatter(count, index), gradients(count)];
        if (odd?.[0] === index) [weight[odd[1]], gradient[odd[1]]] = [odd[2], odd[3]];
        ops.copy_(tensor, ops.float32(weight, [...shape]));
        return ops.float32(gradient, [...shape]);
      });
      optimizer.step(made, lr, 1);
    });
    said.push(await optimizer.madeNonFinite());
  }
  optimizer.dispose();
  for (const { tensor } of parameters) tensor.dispose();
  return said;
}

/** The first and the last element of each parameter, and some in between. */
const places = SHAPES.flatMap(({ shape }, index) => {
  const last = elementCount(shape) - 1;
  return [0, last, ...fc.sample(fc.nat({ max: last }), 4)].map((element): [number, number] => [index, element]);
});

describe.each(OPTIMIZER_NAMES)("%s", (optim) => {
  const choice = { optim, weightDecay: 0 };

  it.each(places)("tells of a weight that overflows: parameter %i, element %i", async (index, element) => {
    // A step is about as large as the learning rate: nothing for the largest number, but beside it.
    const odd: Update["odd"] = [index, element, LARGEST, -1];
    expect(await told(choice, [{ lr: 1e37 }, { lr: 1e37, odd }, {}])).toEqual([false, true, false]);
  });

  it("tells of a learning rate and of a weight decay beyond all numbers", async () => {
    expect(await told(choice, [{}, { lr: 1e39 }])).toEqual([false, true]);
    expect(await told({ optim, weightDecay: 1e308 }, [{}])).toEqual([true]);
  });

  it("tells of a square that overflows in a state, though the weights stay finite", async () => {
    const squares = !/sgd|lion/.test(optim);
    for (const index of [0, 2, 3]) {
      expect(await told(choice, [{ odd: [index, 20, 1, 1e30] }])).toEqual([squares]);
    }
  });

  it("rejects when the engine has failed", async () => {
    const parameters = [{ name: "norm.weight", role: "norm" as const, shape: [4], tensor: ops.zeros([4]) }];
    const optimizer = makeOptimizer(parameters, { optim, weightDecay: 0 });
    const gradient = ops.zeros([4]);
    await flush();
    loadNative().failAllocation(1);
    scope(() => void ops.zeros([4]));
    optimizer.step([gradient], 1, 1);
    expect(isOutOfMemory(await optimizer.madeNonFinite().catch((error) => error))).toBe(true);
    optimizer.dispose();
    gradient.dispose();
    parameters[0]!.tensor.dispose();
  });
});

it.each(OPTIMIZER_NAMES.filter((optim) => /^(paged_)?adamw|ademamix/.test(optim)))(
  "%s tells of 0 / 0, with adam_epsilon 0",
  async (optim) => {
    const gradients = (count: number) => scatter(count, 1).fill(0, 0, 1);
    const epsilon = (eps: number): Choice => ({ optim, weightDecay: 0, adam: { ...ADAM, eps } });
    expect(await told(epsilon(0), [{ gradients }])).toEqual([true]);
    expect(await told(epsilon(1e-8), [{ gradients }])).toEqual([false]);
  },
);

it("8-bit states drop what a gradient that is not finite would make", async () => {
  for (const odd of [Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(await told({ optim: "adamw_8bit", weightDecay: 0 }, [{ odd: [1, 300, 1, odd] }])).toEqual([false]);
    expect(await told({ optim: "adamw_8bit", weightDecay: 0 }, [{ odd: [2, 3, 1, odd] }])).toEqual([true]); // too small for them
  }
});
