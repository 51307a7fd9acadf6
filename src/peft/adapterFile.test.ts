/** PEFT's adapter folders: read, written, and refused. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fixturePath, readGoldens, worstDifference } from "../../tests/support/goldens.js";
import { addLora } from "../../tests/support/lora.js";
import { readHeader } from "../files/safetensors.js";
import { writeSafetensors } from "../files/safetensorsWriter.js";
import { collate } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import { readModelConfig } from "../models/config.js";
import type { ModelDescription } from "../models/description.js";
import { loadCausalLM } from "../models/load.js";
import { UserError } from "../support/errors.js";
import { flush, liveTensors, ops } from "../torch/index.js";
import { loadAdapter as load } from "./adapter.js";
import { adapterConfigJson, readAdapterConfig } from "./adapterConfig.js";
import { adapterEntries } from "./adapterFile.js";
import { type LoraConfigInput, loraSchema } from "./config.js";
import { type AdapterPlan, planAdapter } from "./plan.js";
import { StoredAdapter } from "./storedAdapter.js";

const fixture = fixturePath("tiny-llama-adapter");
const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8"));
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-adapter-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

async function withModel<T>(
  body: (model: Awaited<ReturnType<typeof loadCausalLM>>) => Promise<T>,
  name = "tiny-llama",
): Promise<T> {
  const model = await loadCausalLM(fixturePath(name));
  try {
    return await body(model);
  } finally {
    model.dispose();
  }
}

/** An adapter that trains nothing of the model itself. */
async function loadAdapter(model: CausalLM, folder: string): Promise<AdapterPlan> {
  const stored = await StoredAdapter.open(folder);
  try {
    const plan = planAdapter(stored.config, model.description, { where: stored.where });
    load(model, plan, stored);
    return plan;
  } finally {
    stored.close();
  }
}

describe("an adapter that PEFT wrote", () => {
  it("gives PEFT's logits", async () => {
    const goldens = await readGoldens("logits/tiny-llama-adapter.safetensors");
    const { values, shape } = goldens.get("input_ids")!;
    const rows = Array.from({ length: shape[0]! }, (_, row) => {
      const inputIds = Int32Array.from(values.slice(row * shape[1]!, (row + 1) * shape[1]!));
      return { inputIds, labels: inputIds };
    });
    await withModel(async (model) => {
      await loadAdapter(model, fixture);
      const logits = model.logits(collate(rows));
      const actual = await logits.values();
      logits.dispose();
      expect(worstDifference(actual, goldens.get("logits")!.values)).toBeLessThan(1e-4);
      const plain = await withModel(async (base) => {
        const baseLogits = base.logits(collate(rows));
        const result = await baseLogits.values();
        baseLogits.dispose();
        return result;
      });
      expect(worstDifference(plain, goldens.get("logits")!.values)).toBeGreaterThan(1e-2); // the adapter does something
    });
  });

  it("comes back byte for byte when it is written again", async () => {
    await withModel(async (model) => {
      const plan = await loadAdapter(model, fixture);
      await writeSafetensors(join(folder, "adapter_model.safetensors"), adapterEntries(model, plan));
      writeFileSync(join(folder, "adapter_config.json"), adapterConfigJson(plan, "tiny-llama"));
    });
    const [written, original] = [folder, fixture].map((path) => readJson(join(path, "adapter_config.json")));
    expect(Object.keys(written)).toEqual(Object.keys(original)); // all of them, in PEFT's order
    expect({ ...written, peft_version: original.peft_version }).toEqual(original);
    const [a, b] = await Promise.all(
      [folder, fixture].map((path) => readHeader(join(path, "adapter_model.safetensors"))),
    );
    expect([...a!.tensors.keys()].sort()).toEqual([...b!.tensors.keys()].sort());
    for (const [name, { begin, end }] of a!.tensors) {
      const other = b!.tensors.get(name)!;
      expect(
        readFileSync(a!.path).subarray(begin, end).equals(readFileSync(b!.path).subarray(other.begin, other.end)),
        name,
      ).toBe(true);
    }
  });

  it("is read in bf16 too, and trained on in float32", async () => {
    await withModel(async (model) => {
      const entries = adapterEntries(model, await loadAdapter(model, fixture)).map((entry) => {
        const [path, half] = [
          entry.name.slice("base_model.model.".length).split(".lora_")[0]!,
          entry.name.includes("lora_A"),
        ];
        const { a, b } = model.linears.get(path)!.lora!;
        return {
          ...entry,
          dtype: "BF16" as const,
          data: async () => {
            const small = ops.to(half ? a : b, "bfloat16");
            const bytes = await small.bytes();
            small.dispose();
            return bytes;
          },
        };
      });
      await writeSafetensors(join(folder, "adapter_model.safetensors"), entries);
    });
    cpSync(join(fixture, "adapter_config.json"), join(folder, "adapter_config.json"));
    await withModel(async (model) => {
      await loadAdapter(model, folder);
      const { a } = model.linears.get("model.layers.0.self_attn.q_proj")!.lora!;
      expect(a.info).toMatchObject({ dtype: "float32", shape: [2, 64] });
    });
  });
});

describe("adapter_config.json", () => {
  it.each<LoraConfigInput>([
    {},
    { r: 4, lora_alpha: 12, lora_dropout: 0.05, target_modules: ["v_proj", "q_proj"], use_rslora: true },
    { target_modules: "all-linear", exclude_modules: ["down_proj"] },
    { target_modules: "model\\.layers\\.1\\..*(k_proj|gate_proj)" },
    { target_modules: ["q_proj"], layers_to_transform: [1] },
    { target_modules: ["q_proj", "v_proj"], rank_pattern: { q_proj: 2 }, alpha_pattern: { v_proj: 32 } },
    { target_modules: ["lm_head"], init_lora_weights: "gaussian" },
  ])("round-trips %j: the same layers, ranks and scalings", async (input) => {
    const before = await withModel(async (model) => {
      const plan = addLora(model, input);
      const { paths } = plan;
      writeFileSync(join(folder, "adapter_config.json"), adapterConfigJson(plan, "base"));
      await writeSafetensors(join(folder, "adapter_model.safetensors"), adapterEntries(model, plan));
      return paths.map((path) => [path, model.linears.get(path)!.lora!.rank, model.linears.get(path)!.lora!.scaling]);
    });
    const written = readJson(join(folder, "adapter_config.json"));
    expect(Object.keys(written)).toEqual(Object.keys(readJson(join(fixture, "adapter_config.json"))));
    expect(written).toMatchObject({
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      inference_mode: true,
      base_model_name_or_path: "base",
    });
    await withModel(async (model) => {
      await loadAdapter(model, folder);
      const after = [...model.linears]
        .filter(([, { lora }]) => lora)
        .map(([path, { lora }]) => [path, lora!.rank, lora!.scaling]);
      expect(after).toEqual(before);
    });
  });

  it("lists all-linear's layers by their last names, and by whole paths where these would mean others too", async () => {
    const { layers, ...llama } = await readModelConfig(fixturePath("tiny-llama"));
    const targets = (config: LoraConfigInput, description: Partial<ModelDescription> = {}) =>
      planAdapter(loraSchema.parse(config), { ...llama, layers, ...description }).targets;
    const names = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"];
    expect(targets({ target_modules: "all-linear" })).toEqual(names);
    expect(targets({ target_modules: "all-linear", exclude_modules: ["k_proj"] })).not.toContain("k_proj");
    expect(targets({})).toEqual(["q_proj", "v_proj"]);
    const whole = targets({ target_modules: "all-linear" }, { others: { carried: /^vision\./ } });
    expect(whole).toHaveLength(14);
    expect(whole[0]).toBe("model.layers.0.mlp.down_proj");
  });
});

describe("an adapter that does not fit is refused", () => {
  const change = (changes: Record<string, unknown>) => {
    cpSync(fixture, folder, { recursive: true });
    const path = join(folder, "adapter_config.json");
    writeFileSync(path, JSON.stringify({ ...readJson(path), ...changes }));
  };

  it.each<[Record<string, unknown>, string]>([
    [{ peft_type: "IA3" }, 'peft_type "IA3"; only LORA is supported'],
    [{ use_qalora: true }, "use_qalora: it needs weights quantized by GPTQ"],
    [{ target_parameters: ["experts"] }, "target_parameters: "],
    [{ init_lora_weights: "pissa_niter_4" }, "path_initial_model_for_weight_conversion"],
    [{ init_lora_weights: "corda" }, "path_initial_model_for_weight_conversion"],
    [{ init_lora_weights: "mica" }, "is not supported: it freezes half of the adapter"],
    [{ r: -1 }, "r: "],
    [{ r: "8" }, "r: "],
  ])("%j", async (changes, message) => {
    change(changes);
    await expect(readAdapterConfig(folder)).rejects.toThrow(message);
    await expect(readAdapterConfig(folder)).rejects.toThrow(UserError);
    await expect(readAdapterConfig(folder)).rejects.toThrow(join(folder, "adapter_config.json"));
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      "a rank that the weights do not have",
      { r: 8 },
      /lora_A\.weight' has the shape \[4,64\], this model and adapter_config\.json ask for \[8,64\]/,
    ],
    [
      "fewer layers than the file has",
      { target_modules: ["q_proj"] },
      /has the weight '.*', which fits no targeted layer/,
    ],
    [
      "layers that the file lacks",
      { target_modules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"] },
      /has no weight 'base_model\.model\.lm_head\.lora_A\.weight'/,
    ],
    ["layers that the model lacks", { target_modules: ["c_attn"] }, /matches no linear layer/],
  ])("%s", async (_, changes, message) => {
    change(changes);
    await withModel(async (model) => {
      const error = await loadAdapter(model, folder).catch((reason) => reason);
      expect(error).toBeInstanceOf(UserError);
      expect(error.message).toMatch(message);
    });
  });

  it("another model's", async () => {
    await withModel(async (model) => {
      await expect(loadAdapter(model, fixture)).rejects.toThrow(
        /has the shape \[\d+,64\], this model and adapter_config.json ask for \[\d+,32\]/,
      );
    }, "tiny-llama-bias");
  });

  it("a folder without one", async () => {
    await expect(readAdapterConfig(folder)).rejects.toThrow(
      `adapter: cannot read ${join(folder, "adapter_config.json")}`,
    );
    writeFileSync(join(folder, "adapter_config.json"), "{");
    await expect(readAdapterConfig(folder)).rejects.toThrow(
      `adapter: cannot read ${join(folder, "adapter_config.json")}`,
    );
    writeFileSync(join(folder, "adapter_config.json"), "null");
    await expect(readAdapterConfig(folder)).rejects.toThrow(UserError);
    cpSync(join(fixture, "adapter_config.json"), join(folder, "adapter_config.json"));
    await withModel((model) => expect(loadAdapter(model, folder)).rejects.toThrow("adapter_model.safetensors"));
  });
});
