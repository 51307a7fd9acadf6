import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { makeOptimizer, makeParameters, type Shapes, updates } from "../../tests/support/optimizers.js";
import { flush, liveTensors, ops, type Tensor } from "../torch/index.js";
import { OPTIMIZER_NAMES } from "./catalogue.js";
import type { Optimizer } from "./optimizer.js";
import { diskTier, hostTier } from "./pageTiers.js";
import { PagedStateMemory, PlainStateMemory, type StateMemory } from "./stateMemory.js";

const folder = mkdtempSync(join(tmpdir(), "slimtune-optimizer-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

/** What a checkpoint would hold of an optimizer, and a reader of it. */
async function saved(optimizer: Optimizer) {
  const entries = new Map<string, { shape: readonly number[]; dtype: "float32" | "uint8"; data: Uint8Array }>();
  for (const { name, shape, dtype, data } of optimizer.stateEntries()) {
    entries.set(name, { shape, dtype: dtype === "U8" ? "uint8" : "float32", data: await data() });
  }
  const read = (name: string, shape: readonly number[]): Tensor => {
    const entry = entries.get(name)!;
    expect(entry.shape).toEqual(shape);
    return ops.fromBytes(entry.data, entry.dtype, [...shape]);
  };
  return { entries, read };
}

/** The weights after some updates; stopped after `stopAt`, saved, and continued by an optimizer made anew. */
async function train(optim: string, shapes: Shapes, steps: number, memory: () => StateMemory, stopAt?: number) {
  const optim_args = optim.includes("ademamix") ? "t_alpha=3,t_beta3=3" : undefined;
  const parameters = makeParameters(shapes);
  let optimizer = makeOptimizer(parameters, { optim, optim_args }, memory());
  if (stopAt !== undefined) {
    updates(optimizer, parameters, { to: stopAt });
    const { read } = await saved(optimizer);
    optimizer.dispose();
    optimizer = makeOptimizer(parameters, { optim, optim_args }, memory());
    await optimizer.loadState(read);
  }
  updates(optimizer, parameters, { from: (stopAt ?? 0) + 1, to: steps });
  const weights = await Promise.all(parameters.map(({ tensor }) => tensor.bytes()));
  const stats = await optimizer.stats();
  const description = optimizer.describe();
  optimizer.dispose();
  for (const { tensor } of parameters) tensor.dispose();
  return { weights: Buffer.concat(weights), stats, description };
}

const plain = () => new PlainStateMemory("cpu");

describe.each(OPTIMIZER_NAMES)("%s", (optim) => {
  it("goes on from a saved state as if it had never stopped", async () => {
    const shapes = { "layers.0.weight": [70, 90], "norm.weight": [40] };
    const whole = await train(optim, shapes, 6, plain);
    const resumed = await train(optim, shapes, 6, plain, 3);
    expect(Buffer.compare(resumed.weights, whole.weights)).toBe(0);
  });
});

describe.each(OPTIMIZER_NAMES.filter((name) => name.startsWith("paged_")))("%s", (optim) => {
  const shapes: Shapes = Object.fromEntries(
    [500_000, 130_001, 500_000, 5, 200_000].map((size, i) => [`layers.${i}.weight`, [size]]),
  );

  it("ends with the same bytes with pages as without, resumed or not", async () => {
    const { weights } = await train(optim, shapes, 4, plain);
    const unlimited = await train(optim, shapes, 4, () => new PagedStateMemory(diskTier(folder), undefined));
    expect(Buffer.compare(unlimited.weights, weights)).toBe(0);
    expect(unlimited.stats!.moved).toBe(0);
    for (const stopAt of [undefined, 2]) {
      const tight = await train(optim, shapes, 4, () => new PagedStateMemory(diskTier(folder), 2 ** 20), stopAt);
      expect(Buffer.compare(tight.weights, weights)).toBe(0);
      expect(tight.stats!.pages).toBeGreaterThan(tight.stats!.resident);
      expect(tight.stats!.moved).toBeGreaterThan(2 ** 20);
      expect(tight.description).toMatch(/budget 1\.0 MiB: 0 stay in memory, \d+ come and go/);
    }
  });

  // The CPU in the part of a GPU: the same copies between the host's pages and the two buffers, in the same order.
  it.each([undefined, 2 ** 20, 3 * 2 ** 20, 2 ** 26])(
    "… and with pages that take turns on a device, budget %s",
    async (budget) => {
      const { weights } = await train(optim, shapes, 4, plain);
      for (const stopAt of [undefined, 2]) {
        const paged = await train(optim, shapes, 4, () => new PagedStateMemory(hostTier("cpu"), budget), stopAt);
        expect(Buffer.compare(paged.weights, weights)).toBe(0);
        const { pages, resident, moved } = paged.stats!;
        expect(moved > 0).toBe(resident < pages);
        if (budget === undefined) expect(resident).toBe(0);
        if (budget === 2 ** 26) expect(resident).toBe(pages);
      }
    },
  );
});

describe("paged states", () => {
  const shapes: Shapes = { "layers.0.weight": [300_000], "layers.1.weight": [300_000] };

  it("stay where the budget holds them all", async () => {
    const { stats } = await train(
      "paged_adamw_32bit",
      shapes,
      1,
      () => new PagedStateMemory(diskTier(folder), 64 * 2 ** 20),
    );
    expect(stats).toMatchObject({ moved: 0 });
  });

  it("say when there is no room for them beside the device", () => {
    const huge = [{ name: "layers.0.weight", role: "matrix" as const, shape: [2 ** 48], tensor: undefined as never }];
    expect(() =>
      makeOptimizer(huge, { optim: "paged_lion_32bit" }, new PagedStateMemory(hostTier("cpu"), undefined)),
    ).toThrow(
      /optim: the pages of a paged optimizer need .* MiB of the host's memory and two buffers on cpu: .*page_budget/,
    );
  });

  it("leave no file behind, and refuse a folder that cannot hold them", async () => {
    const parameters = makeParameters({ "layers.0.weight": [1000] });
    const optimizer = makeOptimizer(
      parameters,
      { optim: "paged_lion_8bit" },
      new PagedStateMemory(diskTier(folder), undefined),
    );
    expect(readdirSync(folder)).toEqual([]);
    optimizer.dispose();
    const nowhere = new PagedStateMemory(diskTier(join(folder, "missing")), undefined);
    expect(() => makeOptimizer(parameters, { optim: "paged_lion_8bit" }, nowhere)).toThrow(
      /optim: the pages of a paged optimizer need .* output_dir/,
    );
    for (const { tensor } of parameters) tensor.dispose();
  });
});

describe("8-bit states", () => {
  const shapes = { "model.embed_tokens.weight": [64, 64], "layers.0.weight": [64, 64], "layers.1.weight": [63, 65] };

  async function stateBytes(optim: string) {
    const parameters = makeParameters(shapes);
    const optimizer = makeOptimizer(parameters, { optim });
    const { entries } = await saved(optimizer);
    optimizer.dispose();
    for (const { tensor } of parameters) tensor.dispose();
    return (parameter: string) =>
      [...entries].reduce((sum, [name, { data }]) => sum + (name.startsWith(`${parameter}.`) ? data.length : 0), 0);
  }

  it.each([
    ["adamw_8bit", "adamw_torch"],
    ["lion_8bit", "lion_32bit"],
    ["ademamix_8bit", "ademamix"],
    ["rmsprop_bnb_8bit", "rmsprop_bnb"],
  ])("%s takes a quarter of %s, but for embeddings and tensors below 4,096 elements", async (small, large) => {
    const [bits8, bits32] = [await stateBytes(small), await stateBytes(large)];
    expect(bits8("layers.0.weight") / bits32("layers.0.weight")).toBeCloseTo(1 / 4 + 1 / 256, 10);
    for (const parameter of ["model.embed_tokens.weight", "layers.1.weight"]) {
      expect(bits8(parameter)).toBe(bits32(parameter));
    }
  });

  it("are read back as the very codes that were saved", async () => {
    const parameters = makeParameters(shapes);
    const optimizer = makeOptimizer(parameters, { optim: "adamw_8bit" });
    updates(optimizer, parameters, { to: 2 });
    const before = await saved(optimizer);
    updates(optimizer, parameters, { from: 3, to: 4 });
    await optimizer.loadState(before.read);
    expect((await saved(optimizer)).entries).toEqual(before.entries);
    optimizer.dispose();
    for (const { tensor } of parameters) tensor.dispose();
  });
});
