/** Every kind of adapter that PEFT saves: its logits, what slimtune writes of it, and what merging makes of it. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
import { readVariant, storedNames, writeVariant } from "./support/architectures.js";
import { fixturePath, type Golden, goldenPath, readGoldens, readTensors, worstDifference } from "./support/goldens.js";

const CASES = readdirSync(fixturePath("adapters")).sort();
/** A head that is tied to the embedding: PEFT changes both by merging, so that the model answers in another way. */
const PARTED_BY_MERGING = ["tokens-of-tied-head"];

const adapterOf = (name: string) => fixturePath(`adapters/${name}`);
const configOf = (folder: string) => JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"));
const baseOf = (name: string): string => configOf(adapterOf(name)).base_model_name_or_path;

/** The base's folder; the weights of one of the architectures' follow a formula. */
async function modelOf(name: string): Promise<string> {
  const base = baseOf(name);
  if (!base.startsWith("architectures/")) return fixturePath(base);
  const made = join(folder, "base");
  return existsSync(made) ? made : writeVariant(readVariant(base.slice("architectures/".length)), made);
}

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

it("has a golden for every adapter", () => {
  expect(readdirSync(goldenPath("adapters")).sort()).toEqual(CASES.map((name) => `${name}.safetensors`).sort());
  expect(CASES.length).toBeGreaterThan(30);
});

describe.each(CASES)("%s", (name) => {
  it("gives PEFT's logits", async () => {
    const golden = await readGoldens(`adapters/${name}.safetensors`);
    const ids = golden.get("input_ids")!;
    const actual = await logitsOf(await loadAdapted(await modelOf(name), adapterOf(name), {}), ids);
    expect(worstDifference(actual, golden.get("logits")!.values)).toBeLessThan(1e-4);
    const plain = await logitsOf(await loadCausalLM(await modelOf(name)), ids);
    expect(worstDifference(plain, golden.get("logits")!.values)).toBeGreaterThan(1e-2); // the adapter does something
  });

  it("is written as PEFT writes it, or as plain LoRA where it fits only a changed base", async () => {
    const stored = await StoredAdapter.open(adapterOf(name));
    const plan = planAdapter(stored.config, await readModelConfig(await modelOf(name)));
    const model = await loadCausalLM(await modelOf(name), loadOptionsFor(plan));
    loadAdapter(model, plan, stored);
    stored.close();
    await writeSafetensors(join(folder, "adapter_model.safetensors"), adapterEntries(model, plan));
    writeFileSync(join(folder, "adapter_config.json"), adapterConfigJson(plan, baseOf(name)));
    const golden = await readGoldens(`adapters/${name}.safetensors`);
    await logitsOf(model, golden.get("input_ids")!);

    const lessened = configOf(adapterOf(name)).init_lora_weights !== true && !name.startsWith("orthogonal");
    const [written, given] = [folder, adapterOf(name)].map(configOf);
    if (lessened) {
      const { r, lora_alpha } = given;
      expect(written).toMatchObject({ r: 2 * r, lora_alpha: 2 * lora_alpha, init_lora_weights: true });
    } else {
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
    const again = await logitsOf(await loadAdapted(await modelOf(name), folder, {}), golden.get("input_ids")!);
    expect(worstDifference(again, golden.get("logits")!.values)).toBeLessThan(1e-4);
  });

  it("merges as PEFT merges it", async () => {
    const golden = await readGoldens(`adapters/${name}.safetensors`);
    const out = join(folder, "merged");
    const changed = [...golden.keys()].filter((key) => key.startsWith("merged."));
    const merged = await mergeAdapter({ adapter: adapterOf(name), model: await modelOf(name), out });
    expect(merged.folder).toBe(out);
    if (PARTED_BY_MERGING.includes(name)) {
      const logits = await logitsOf(await loadCausalLM(out), golden.get("input_ids")!);
      return expect(worstDifference(logits, golden.get("logits")!.values)).toBeLessThan(1e-4);
    }
    const tensors = await readTensors(join(out, "model.safetensors"));
    const model = await loadCausalLM(out);
    const stored = storedNames(model);
    for (const key of changed) {
      const name = key.slice("merged.".length);
      const [sum, norm, last] = golden.get(key)!.values as Float64Array;
      const { values } = tensors.get(stored.get(name) ?? name)!;
      const numbers = [...(values as Float32Array)];
      expect(Math.abs(numbers.reduce((a, b) => a + b, 0) - sum!), key).toBeLessThan(1e-4 * Math.max(1, norm!));
      expect(Math.abs(Math.hypot(...numbers) - norm!), key).toBeLessThan(1e-4 * norm!);
      expect(Math.abs(numbers.at(-1)! - last!), key).toBeLessThan(1e-4);
    }
    const config = JSON.parse(readFileSync(join(out, "config.json"), "utf8"));
    expect(config.tie_word_embeddings ?? false).toBe(golden.get("tied")!.values[0] !== 0);
    const logits = await logitsOf(model, golden.get("input_ids")!);
    expect(worstDifference(logits, golden.get("merged_logits")!.values)).toBeLessThan(1e-4);
    const { tensors: header } = await readHeader(join(out, "model.safetensors"));
    const { tensors: before } = await readHeader(join(await modelOf(name), "model.safetensors"));
    for (const [key, { dtype }] of before) expect(header.get(key)?.dtype, key).toBe(dtype);
  });
});
