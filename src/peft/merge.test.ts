/** Merging: what is refused, what is left alone, and what a merged folder holds. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { fixturePath, readTensors, worstDifference } from "../../tests/support/goldens.js";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { readHeader } from "../files/safetensors.js";
import { writeSafetensors } from "../files/safetensorsWriter.js";
import { UserError } from "../support/errors.js";
import { flush, liveTensors } from "../torch/index.js";
import { mergeAdapter } from "./merge.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const model = fixturePath("tiny-llama");
const adapter = fixturePath("tiny-llama-adapter");
const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8"));

/** A copy of the adapter with another config, or other weights. */
async function changed(config: Record<string, unknown>, add: Record<string, number[]> = {}): Promise<string> {
  const folder = newFolder();
  cpSync(adapter, folder, { recursive: true });
  const path = join(folder, "adapter_config.json");
  writeFileSync(path, JSON.stringify({ ...readJson(path), ...config }));
  const tensors = await readTensors(join(folder, "adapter_model.safetensors"));
  for (const [name, shape] of Object.entries(add)) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(Number.POSITIVE_INFINITY);
    tensors.set(`base_model.model.${name}`, { shape, values });
  }
  await writeSafetensors(
    join(folder, "adapter_model.safetensors"),
    [...tensors].map(([name, { shape, values }]) => ({
      name,
      dtype: "F32" as const,
      shape,
      data: async () => new Uint8Array((values as Float32Array).buffer),
    })),
  );
  return folder;
}

describe("mergeAdapter", () => {
  it("writes a whole model's folder, with the tokenizer that the adapter was trained with", async () => {
    const own = await changed({});
    cpSync(join(model, "tokenizer.json"), join(own, "tokenizer.json"));
    writeFileSync(join(own, "tokenizer_config.json"), '{"own": true}');
    const out = join(newFolder(), "deep", "merged");
    mkdirSync(join(out, ".."));
    const { folder, base, changed: count } = await mergeAdapter({ adapter: own, model, out });
    expect([folder, base]).toEqual([out, model]);
    expect(count).toBe(14); // seven layers, twice
    expect(readFileSync(join(out, "tokenizer_config.json"), "utf8")).toBe('{"own": true}');
    expect(readdirSync(out)).toContain("config.json");
    expect(readdirSync(join(out, ".."))).toEqual(["merged"]); // nothing aside is left
    const plain = join(newFolder(), "plain");
    await mergeAdapter({ adapter, model, out: plain });
    expect(readFileSync(join(plain, "tokenizer_config.json"))).toEqual(
      readFileSync(join(model, "tokenizer_config.json")),
    );
  });

  it.each(["float32", "bfloat16", "float16"] as const)(
    "stores all weights in %s where that is asked for",
    async (dtype) => {
      const [out, exact] = [join(newFolder(), "merged"), join(newFolder(), "exact")];
      await mergeAdapter({ adapter, model, out, dtype });
      await mergeAdapter({ adapter, model, out: exact });
      const { tensors } = await readHeader(join(out, "model.safetensors"));
      const stored = { float32: "F32", bfloat16: "BF16", float16: "F16" }[dtype];
      expect([...new Set([...tensors.values()].map((info) => info.dtype))]).toEqual([stored]);
      expect(readJson(join(out, "config.json")).dtype).toBe(dtype);
      expect(readJson(join(out, "config.json")).torch_dtype).toBeUndefined();
      if (dtype === "float16") return;
      const [rounded, whole] = await Promise.all(
        [out, exact].map((path) => readTensors(join(path, "model.safetensors"))),
      );
      for (const [name, { values }] of whole!) {
        const limit = dtype === "float32" ? 0 : 2 ** -8;
        expect(worstDifference(rounded!.get(name)!.values as Float32Array, values as Float32Array)).toBeLessThanOrEqual(
          limit,
        );
      }
    },
  );

  it("finds the base that the adapter names, and says where it looked", async () => {
    const out = join(newFolder(), "merged");
    const named = await changed({ base_model_name_or_path: model });
    expect((await mergeAdapter({ adapter: named, out })).base).toBe(model);
    const lost = await changed({ base_model_name_or_path: join(out, "nowhere", "at-all") });
    await expect(mergeAdapter({ adapter: lost, out: `${out}2` })).rejects.toThrow(
      /base_model_name_or_path: .*nowhere.* Or name the base with --model\./s,
    );
    const silent = await changed({ base_model_name_or_path: null });
    await expect(mergeAdapter({ adapter: silent, out: `${out}2` })).rejects.toThrow("it names no base model");
  });

  it("takes an empty folder, and leaves a full one alone", async () => {
    const out = newFolder();
    await mergeAdapter({ adapter, model, out });
    const before = readFileSync(join(out, "model.safetensors"));
    await expect(mergeAdapter({ adapter, model, out })).rejects.toThrow(`--out: ${out} holds files already`);
    expect(readFileSync(join(out, "model.safetensors")).equals(before)).toBe(true);
  });

  it.each<[string, () => Promise<string>, string]>([
    ["a whole model", async () => model, "holds a whole model"],
    [
      "a run without a result",
      async () => {
        const run = newFolder();
        for (const step of [2, 10]) mkdirSync(join(run, `checkpoint-${step}`));
        return run;
      },
      "Merge its newest checkpoint: ",
    ],
    ["nothing", async () => newFolder(), "there is no adapter_config.json"],
    ["a layer too many", () => changed({}, { "model.layers.7.mlp.up_proj.lora_A.weight": [4, 64] }), "layers.7"],
    ["a layer too few", () => changed({ target_modules: ["lm_head"], rank_pattern: {} }), "fits no targeted layer"],
    ["an adapter of another rank", () => changed({ r: 8 }), "this model and adapter_config.json ask for [64,8]"],
    [
      "numbers that are not finite",
      () => changed({}, { "model.layers.0.mlp.up_proj.lora_B.weight": [128, 4] }),
      "infinite or NaN",
    ],
    [
      "B's bias where the layer has none",
      () => changed({ lora_bias: true }),
      "has no bias that the adapter's could be merged into",
    ],
    [
      "LoRA on the embedding",
      () => changed({}, { "model.embed_tokens.lora_embedding_A": [4, 384] }),
      "has no place for",
    ],
  ])("refuses %s, and leaves nothing behind", async (_, make, message) => {
    const parent = newFolder();
    const out = join(parent, "merged");
    const error = await mergeAdapter({ adapter: await make(), model, out }).catch((reason) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain(message);
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(parent)).toEqual([]);
  });
});
