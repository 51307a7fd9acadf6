/** Every kind of adapter that PEFT saves: its logits, what slimtune writes of it, and what merging makes of it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { writeSafetensors } from "../src/files/safetensorsWriter.js";
import { mergeAdapter } from "../src/index.js";
import { collate } from "../src/models/batch.js";
import type { CausalLM } from "../src/models/causalLM.js";
import { readModelConfig } from "../src/models/config.js";
import { loadCausalLM } from "../src/models/load.js";
import { loadAdapter, loadOptionsFor } from "../src/peft/adapter.js";
import { adapterConfigJson } from "../src/peft/adapterConfig.js";
import { adapterEntries } from "../src/peft/adapterFile.js";
import { loadAdapted } from "../src/peft/loadAdapted.js";
import { planAdapter } from "../src/peft/plan.js";
import { StoredAdapter } from "../src/peft/storedAdapter.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { fixturePath, type Golden, readGoldens, readTensors, worstDifference } from "./support/goldens.js";

const MODELS = ["tiny-llama", "tiny-llama-bias", "tiny-llama-bf16", "tiny-llama-tied"];
const CASES = [
  "rslora-patterns",
  "layers-pattern",
  "dora",
  "dora-bias",
  "dora-head",
  "dora-bf16",
  "lora-bias",
  "bias-all",
  "bias-lora-only",
  "modules-to-save",
  "modules-to-save-bias",
  "modules-to-save-bf16",
  "head-of-tied",
  "embedding-of-tied",
  "weights-kept-tied",
  "tokens",
  "tokens-tied",
  "tokens-of-both",
  "tokens-of-tied-head",
  "pissa",
  "olora",
  "orthogonal",
  "pissa-converted",
  "olora-rslora-converted",
];
/** A head that is tied to the embedding: PEFT changes both by merging, so that the model answers in another way. */
const PARTED_BY_MERGING = ["tokens-of-tied-head"];

const adapterOf = (name: string) => fixturePath(`adapters/${name}`);
const configOf = (folder: string) => JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"));
const modelOf = (name: string) => fixturePath(configOf(adapterOf(name)).base_model_name_or_path);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-adapters-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

async function logitsOf(model: CausalLM, { values, shape }: Golden): Promise<ArrayLike<number>> {
  const [rows, width] = shape as [number, number];
  const logits = model.logits(
    collate(
      Array.from({ length: rows }, (_, row) => {
        const inputIds = Int32Array.from(values.slice(row * width, (row + 1) * width));
        return { inputIds, labels: inputIds };
      }),
    ),
  );
  const result = await logits.values();
  logits.dispose();
  model.dispose();
  return result as Float32Array;
}

it("uses every fixture", async () => {
  const { readdirSync } = await import("node:fs");
  expect(readdirSync(fixturePath("adapters")).sort()).toEqual([...CASES].sort());
  expect(new Set(CASES.map((name) => configOf(adapterOf(name)).base_model_name_or_path))).toEqual(new Set(MODELS));
});

describe.each(CASES)("%s", (name) => {
  it("gives PEFT's logits", async () => {
    const golden = await readGoldens(`adapters/${name}.safetensors`);
    const ids = golden.get("input_ids")!;
    const actual = await logitsOf(await loadAdapted(modelOf(name), adapterOf(name), {}), ids);
    expect(worstDifference(actual, golden.get("logits")!.values)).toBeLessThan(1e-4);
    const plain = await logitsOf(await loadCausalLM(modelOf(name)), ids);
    expect(worstDifference(plain, golden.get("logits")!.values)).toBeGreaterThan(1e-2); // the adapter does something
  });

  it("is written as PEFT writes it, or as plain LoRA where it fits only a changed base", async () => {
    const stored = await StoredAdapter.open(adapterOf(name));
    const plan = planAdapter(stored.config, await readModelConfig(modelOf(name)));
    const model = await loadCausalLM(modelOf(name), loadOptionsFor(plan));
    loadAdapter(model, plan, stored);
    stored.close();
    await writeSafetensors(join(folder, "adapter_model.safetensors"), adapterEntries(model, plan));
    const base = configOf(adapterOf(name)).base_model_name_or_path;
    writeFileSync(join(folder, "adapter_config.json"), adapterConfigJson(plan.config, base, plan.paths));
    const golden = await readGoldens(`adapters/${name}.safetensors`);
    await logitsOf(model, golden.get("input_ids")!);

    const lessened = ["pissa", "olora"].includes(name);
    const [written, given] = [folder, adapterOf(name)].map(configOf);
    if (lessened) expect(written).toMatchObject({ r: 8, lora_alpha: 16, init_lora_weights: true });
    else {
      const targets = name === "dora" ? { target_modules: expect.any(Array) } : {}; // PEFT lists whole paths
      expect(written).toEqual({ ...given, ...targets, peft_version: written.peft_version });
      const [mine, theirs] = await Promise.all(
        [folder, adapterOf(name)].map((path) => readTensors(join(path, "adapter_model.safetensors"))),
      );
      // Copies that say nothing: of what is trained in full, and of a head below its adapter.
      const idle = /original_module|modules_to_save|lm_head\.base_layer/;
      for (const key of theirs!.keys()) if (idle.test(key)) theirs!.delete(key);
      expect([...mine!.keys()].sort()).toEqual([...theirs!.keys()].sort());
      for (const [key, { values, shape }] of theirs!) {
        expect(mine!.get(key)!.shape, key).toEqual(shape);
        expect(worstDifference(mine!.get(key)!.values as Float32Array, values as Float32Array), key).toBe(0);
      }
    }
    const again = await logitsOf(await loadAdapted(modelOf(name), folder, {}), golden.get("input_ids")!);
    expect(worstDifference(again, golden.get("logits")!.values)).toBeLessThan(1e-4);
  });

  it("merges as PEFT merges it", async () => {
    const golden = await readGoldens(`adapters/${name}.safetensors`);
    const out = join(folder, "merged");
    const changed = [...golden.keys()].filter((key) => key.startsWith("merged."));
    const merged = await mergeAdapter({ adapter: adapterOf(name), model: modelOf(name), out });
    expect(merged.folder).toBe(out);
    if (PARTED_BY_MERGING.includes(name)) {
      const logits = await logitsOf(await loadCausalLM(out), golden.get("input_ids")!);
      return expect(worstDifference(logits, golden.get("logits")!.values)).toBeLessThan(1e-4);
    }
    const tensors = await readTensors(join(out, "model.safetensors"));
    for (const key of changed) {
      const [sum, norm, last] = golden.get(key)!.values as Float64Array;
      const { values } = tensors.get(key.slice("merged.".length))!;
      const numbers = [...(values as Float32Array)];
      const close = name.endsWith("bf16") ? 3e-3 : 1e-4;
      expect(Math.abs(numbers.reduce((a, b) => a + b, 0) - sum!), key).toBeLessThan(close * Math.max(1, norm!));
      expect(Math.abs(Math.hypot(...numbers) - norm!), key).toBeLessThan(close * norm!);
      expect(Math.abs(numbers.at(-1)! - last!), key).toBeLessThan(close);
    }
    const config = JSON.parse(readFileSync(join(out, "config.json"), "utf8"));
    expect(config.tie_word_embeddings ?? false).toBe(golden.get("tied")!.values[0] !== 0);
    const logits = await logitsOf(await loadCausalLM(out), golden.get("input_ids")!);
    expect(worstDifference(logits, golden.get("merged_logits")!.values)).toBeLessThan(1e-4);
    const { tensors: header } = await readHeader(join(out, "model.safetensors"));
    const { tensors: before } = await readHeader(join(modelOf(name), "model.safetensors"));
    for (const [key, { dtype }] of before) expect(header.get(key)?.dtype, key).toBe(dtype);
  });
});
