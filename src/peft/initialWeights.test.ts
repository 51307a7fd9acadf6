/** Initial adapters against PEFT's, bit for bit, for the same seed. */
import { afterEach, describe, expect, it } from "vitest";
import { fixturePath, readGoldenJson, readGoldens } from "../../tests/support/goldens.js";
import { addLora } from "../../tests/support/lora.js";
import { loadCausalLM } from "../models/load.js";
import { flush, liveTensors, manualSeed, ops } from "../torch/index.js";
import type { LoraConfigInput } from "./config.js";

interface InitGolden {
  model: string;
  lora: LoraConfigInput;
  seed: number;
  order: string[];
  rank: number[];
  scaling: number[];
  trainable_parameters: number;
  total_parameters: number;
  rng_next: string;
}
const goldens = readGoldenJson<Record<string, InitGolden>>("lora-init/index.json");

/** Over a bf16 base PEFT rounds A to bf16, and trains on from there; slimtune draws and keeps it in float32. */
const roundedByPeft = ["bf16"];

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

describe("initial LoRA weights", () => {
  it.each(Object.keys(goldens).filter((name) => !roundedByPeft.includes(name)))("%s", async (name) => {
    const golden = goldens[name]!;
    const expected = await readGoldens(`lora-init/${name}.safetensors`);
    const model = await loadCausalLM(fixturePath(golden.model));
    manualSeed(golden.seed);
    const { paths } = addLora(model, golden.lora);
    const next = ops.empty([], "int64");
    ops.random_(next);
    expect(paths).toEqual(golden.order);
    let trained = 0;
    for (const [index, path] of paths.entries()) {
      const { a, b, rank, scaling } = model.linears.get(path)!.lora!;
      expect([path, rank, scaling]).toEqual([path, golden.rank[index], golden.scaling[index]]);
      const { values, shape } = expected.get(`base_model.model.${path}.lora_A.weight`)!;
      expect(a.shape).toEqual(shape);
      expect(await a.values(), path).toEqual(values);
      const zeros = await b.values();
      expect(zeros.every((value) => value === 0)).toBe(true);
      trained += values.length + zeros.length;
    }
    expect(expected.size).toBe(paths.length);
    expect(trained).toBe(golden.trainable_parameters);
    // The generator stands where PEFT leaves it: what is drawn after the adapter is the same too.
    expect(String((await next.values())[0])).toBe(golden.rng_next);
    next.dispose();
    model.dispose();
  });
});
