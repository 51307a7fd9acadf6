import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { flush, keep, liveTensors, ops, scope, type Tensor } from "../torch/index.js";
import { AdamW } from "./adamw.js";
import type { TrainedParameter } from "./optimizer.js";
import { PagedStateMemory, PlainStateMemory, type StateMemory } from "./stateMemory.js";

const folder = mkdtempSync(join(tmpdir(), "slimtune-adamw-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const config = { beta1: 0.9, beta2: 0.98, eps: 1e-7, weightDecay: 0.1 };

/** Values that look random but are the same everywhere. */
const wave = (length: number, phase: number) => Float32Array.from({ length }, (_, i) => Math.sin(i * 1.7 + phase));

function parameter(name: string, size: number): TrainedParameter {
  return { name, tensor: keep(ops.float32(wave(size, 0))), shape: [size] };
}

function update(optimizer: AdamW, sizes: number[], step: number): void {
  scope(() =>
    optimizer.step(
      sizes.map((size, i) => ops.float32(wave(size, step + i))),
      1e-2 / step,
    ),
  );
}

/** Textbook AdamW in float64. */
function textbook(size: number, phase: number, steps: number, weightDecay: number): number[] {
  return Array.from({ length: size }, (_, i) => {
    let [p, m, v] = [wave(size, 0)[i]!, 0, 0];
    for (let t = 1; t <= steps; t++) {
      const g = wave(size, t + phase)[i]!;
      const lr = 1e-2 / t;
      p -= lr * weightDecay * p;
      m = config.beta1 * m + (1 - config.beta1) * g;
      v = config.beta2 * v + (1 - config.beta2) * g * g;
      p -= (lr * (m / (1 - config.beta1 ** t))) / (Math.sqrt(v / (1 - config.beta2 ** t)) + config.eps);
    }
    return p;
  });
}

async function train(memory: StateMemory, sizes: number[], steps: number): Promise<Uint8Array[]> {
  const parameters = sizes.map((size, i) => parameter(`model.layers.${i}.weight`, size));
  const optimizer = new AdamW(parameters, config, memory);
  for (let step = 1; step <= steps; step++) update(optimizer, sizes, step);
  const bytes = await Promise.all(parameters.map(({ tensor }) => tensor.bytes()));
  optimizer.dispose();
  for (const { tensor } of parameters) tensor.dispose();
  return bytes;
}

describe("AdamW", () => {
  it("is the textbook's update, with decay for weights and none for norms and biases", async () => {
    const parameters = [parameter("model.layers.0.mlp.up_proj.weight", 33), parameter("model.norm.weight", 17)];
    const optimizer = new AdamW(parameters, config, new PlainStateMemory());
    for (let step = 1; step <= 20; step++) update(optimizer, [33, 17], step);
    const expected = [textbook(33, 0, 20, config.weightDecay), textbook(17, 1, 20, 0)];
    for (const [i, { tensor }] of parameters.entries()) {
      const values = await tensor.values();
      for (const [j, value] of values.entries()) expect(Math.abs(Number(value) - expected[i]![j]!)).toBeLessThan(2e-6);
      tensor.dispose();
    }
    optimizer.dispose();
  });

  it("goes on from a saved state as if it had never stopped", async () => {
    const whole = await train(new PlainStateMemory(), [40], 10);
    const weights = parameter("model.layers.0.weight", 40);
    const first = new AdamW([weights], config, new PlainStateMemory());
    for (let step = 1; step <= 5; step++) update(first, [40], step);
    const saved = new Map<string, { shape: readonly number[]; data: Uint8Array }>();
    for (const { name, shape, data } of first.stateEntries()) saved.set(name, { shape, data: await data() });
    first.dispose();
    const second = new AdamW([weights], config, new PlainStateMemory());
    second.loadState((name, shape): Tensor => {
      expect(saved.get(name)!.shape).toEqual(shape);
      return ops.fromBytes(saved.get(name)!.data, "float32", [...shape]);
    });
    for (let step = 6; step <= 10; step++) update(second, [40], step);
    expect(await weights.tensor.bytes()).toEqual(whole[0]);
    second.dispose();
    weights.tensor.dispose();
  });
});

describe("paged states", () => {
  const sizes = [300_000, 70_000, 300_000, 5, 150_000]; // 2.4, 0.56, 2.4, 0, 1.2 MB of states

  it("give the same bytes as states in memory, with no budget and with one too small for them", async () => {
    const plain = await train(new PlainStateMemory(), sizes, 4);
    for (const budget of [undefined, 2 ** 20]) {
      const paged = await train(new PagedStateMemory(folder, budget), sizes, 4);
      for (const [i, bytes] of paged.entries()) expect(Buffer.compare(bytes, plain[i]!), `weight ${i}`).toBe(0);
    }
  });

  it("move what the budget does not hold, and say so", async () => {
    const memory = new PagedStateMemory(folder, 6 * 2 ** 20);
    const parameters = sizes.map((size, i) => parameter(`w${i}`, size));
    const optimizer = new AdamW(parameters, config, memory);
    update(optimizer, sizes, 1);
    const stats = (await optimizer.stats())!;
    expect(stats.pages).toBeGreaterThan(stats.resident);
    expect(stats.moved).toBeGreaterThan(2 ** 20);
    expect(optimizer.describe()).toMatch(/budget 6\.0 MiB: \d+ stay in memory, \d+ come and go/);
    optimizer.dispose();
    for (const { tensor } of parameters) tensor.dispose();
  });

  it("keep everything where the budget holds it all", async () => {
    const memory = new PagedStateMemory(folder, 64 * 2 ** 20);
    const parameters = sizes.map((size, i) => parameter(`w${i}`, size));
    const optimizer = new AdamW(parameters, config, memory);
    update(optimizer, sizes, 1);
    expect(await optimizer.stats()).toMatchObject({ moved: 0 });
    optimizer.dispose();
    for (const { tensor } of parameters) tensor.dispose();
  });

  it("leave no file behind, and refuse a folder that cannot hold them", async () => {
    const memory = new PagedStateMemory(folder, undefined);
    const weights = parameter("w", 1000);
    const optimizer = new AdamW([weights], config, memory);
    expect(readdirSync(folder)).toEqual([]);
    optimizer.dispose();
    const nowhere = new PagedStateMemory(join(folder, "missing"), undefined);
    expect(() => new AdamW([weights], config, nowhere)).toThrow(
      /optim: the pages of a paged optimizer need .* output_dir/,
    );
    weights.tensor.dispose();
  });
});
