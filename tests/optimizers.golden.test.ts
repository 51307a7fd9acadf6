/** Updates against PyTorch's, transformers' and bitsandbytes' own, as the Trainer makes them of `optim` and `optim_args`. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { flush, liveTensors, ops } from "../src/torch/index.js";
import { type Golden, readGoldenJson, readGoldens, worstDifference } from "./support/goldens.js";
import { makeOptimizer, makeParameters, type Shapes, updates } from "./support/optimizers.js";

interface Case {
  optim: string;
  optim_args?: string;
  adam_beta1: number;
  adam_beta2: number;
  adam_epsilon: number;
}

const { steps, learning_rate, weight_decay, shapes, cases } = readGoldenJson<{
  steps: number;
  learning_rate: number;
  weight_decay: number;
  shapes: Shapes;
  cases: Record<string, Case>;
}>("optimizers.json");

let goldens: Map<string, Golden>;
beforeAll(async () => {
  goldens = await readGoldens("optimizers.safetensors");
});
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

async function run(name: string) {
  const { adam_beta1, adam_beta2, adam_epsilon, ...choice } = cases[name]!;
  const adam = { beta1: adam_beta1, beta2: adam_beta2, eps: adam_epsilon };
  const parameters = makeParameters(shapes);
  const optimizer = makeOptimizer(parameters, { ...choice, adam, weightDecay: weight_decay });
  updates(optimizer, parameters, { to: steps, lr: learning_rate });
  const weights = new Map<string, number[]>();
  for (const { name: parameter, tensor, shape } of parameters) {
    const width = shape[1] ?? 1;
    const all = Array.from(await tensor.values(), Number);
    weights.set(
      parameter,
      all.filter((_, i) => Math.floor(i / width) % 4 === 0), // every fourth row
    );
    tensor.dispose();
  }
  const states = new Map<string, Uint8Array>();
  for (const { name: entry, data } of optimizer.stateEntries()) states.set(entry, await data());
  optimizer.dispose();
  return { weights, states };
}

describe.each(Object.keys(cases))("%s", (name) => {
  it("gives the weights of Python's", async () => {
    const { weights } = await run(name);
    for (const [parameter, values] of weights) {
      expect(worstDifference(values, goldens.get(`${name}/${parameter}`)!.values)).toBeLessThan(2e-6);
    }
  });
});

/** Our states by bitsandbytes' names; AdEMAMix has two averages in its first. */
const stateNames: Record<string, [state1: string[], state2: string[]]> = {
  "adamw-8bit": [["exp_avg"], ["exp_avg_sq"]],
  "adamw-8bit-codes": [["exp_avg"], ["exp_avg_sq"]],
  "lion-8bit": [["exp_avg"], []],
  "lion-8bit-codes": [["exp_avg"], []],
  "ademamix-8bit": [["exp_avg", "exp_avg_slow"], ["exp_avg_sq"]],
  "rmsprop-bnb-8bit": [["square_avg"], []],
};

describe("8-bit states", () => {
  it.each(Object.entries(stateNames))("%s: bitsandbytes' codes and scales", async (name, [first, second]) => {
    const { states } = await run(name);
    const bytes = (entries: string[], suffix: string) =>
      Buffer.concat(entries.map((entry) => states.get(`layers.0.weight.${entry}${suffix}`)!));
    for (const [key, entries] of [
      ["1", first],
      ["2", second],
    ] as const) {
      if (entries.length === 0) continue;
      const expected = goldens.get(`${name}/state${key}`)!.values;
      const misses = Array.from(bytes(entries, ""), (code, i) => Math.abs(code - expected[i]!)).filter(
        (miss) => miss > 0,
      );
      // Where rounding differs in a last place (fused multiply-add or not), a value in the middle of two codes may differ.
      expect(misses.length).toBeLessThanOrEqual(name.endsWith("-codes") ? 0 : 4);
      expect(misses.every((miss) => miss === 1)).toBe(true);
      const absmax = new Float32Array(new Uint8Array(bytes(entries, "_absmax")).buffer);
      expect(worstDifference(absmax, goldens.get(`${name}/absmax${key}`)!.values)).toBeLessThan(2e-7);
    }
  });

  it.each([
    ["signed", "lion_8bit", "exp_avg", (value: number) => value], // m = g
    ["unsigned", "adamw_8bit", "exp_avg_sq", Math.sqrt], // v = g²
  ] as const)("%s map: every value of it has its own code", async (map, optim, state, gradient) => {
    const values = Array.from(goldens.get(`dynamic-map/${map}`)!.values);
    const [parameter] = makeParameters({ "layers.0.weight": [16, 256] });
    const optimizer = makeOptimizer([parameter!], { optim, adam: { beta1: 0, beta2: 0, eps: 1e-8 } });
    const gradients = ops.float32(Array.from({ length: 16 }, () => values.map(gradient)).flat(), [16, 256]);
    optimizer.step([gradients], 0, 1);
    const entry = optimizer.stateEntries().find(({ name }) => name === `layers.0.weight.${state}`)!;
    expect(Array.from(await entry.data())).toEqual(Array.from({ length: 16 }, () => Array.from(values.keys())).flat());
    optimizer.dispose();
    gradients.dispose();
    parameter!.tensor.dispose();
  });
});
