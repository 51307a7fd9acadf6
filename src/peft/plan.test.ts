/** What an adapter's config asks of a model, and what a model cannot have. */
import { beforeAll, describe, expect, it } from "vitest";
import { fixturePath } from "../../tests/support/goldens.js";
import { readModelConfig } from "../models/config.js";
import type { ModelDescription } from "../models/description.js";
import { type LoraConfigInput, loraSchema } from "./config.js";
import { planAdapter } from "./plan.js";

const models = new Map<string, ModelDescription>();
beforeAll(async () => {
  for (const name of ["tiny-llama", "tiny-llama-tied", "tiny-llama-bias", "architectures/gpt2"]) {
    models.set(name, await readModelConfig(fixturePath(name)));
  }
});

const plan = (config: LoraConfigInput, model = "tiny-llama", quantized = false) =>
  planAdapter(loraSchema.parse(config), models.get(model)!, { quantized });
const full = (...given: Parameters<typeof plan>) => [...plan(...given).full].sort();

describe("planAdapter", () => {
  it("takes modules by the ending of their paths, whole blocks among them, and gives them no adapter", () => {
    expect(full({ modules_to_save: ["lm_head"] })).toEqual(["lm_head.weight"]);
    expect(full({ modules_to_save: ["norm"] })).toEqual([
      "model.layers.0.input_layernorm.weight", // "norm" is its ending, too, as in PEFT
      "model.layers.0.post_attention_layernorm.weight",
      "model.layers.1.input_layernorm.weight",
      "model.layers.1.post_attention_layernorm.weight",
      "model.norm.weight",
    ]);
    const block = plan({ target_modules: "all-linear", modules_to_save: ["1.mlp"] });
    expect([...block.full].map((name) => name.split(".").at(-2))).toEqual(["gate_proj", "up_proj", "down_proj"]);
    expect(block.paths).toHaveLength(11);
  });

  it("trains all biases, or those of the adapted layers", () => {
    expect(full({ bias: "all" }, "tiny-llama-bias")).toHaveLength(14);
    expect(full({ bias: "lora_only", target_modules: ["q_proj"] }, "tiny-llama-bias")).toEqual([
      "model.layers.0.self_attn.q_proj.bias",
      "model.layers.1.self_attn.q_proj.bias",
    ]);
    expect(full({ bias: "all" })).toEqual([]);
  });

  it("parts a tied head from the embedding, unless they are to be kept tied", () => {
    expect(plan({ modules_to_save: ["lm_head"] }, "tiny-llama-tied")).toMatchObject({ untied: true, keptTied: false });
    expect(plan({ modules_to_save: ["norm"] }, "tiny-llama-tied")).toMatchObject({ untied: false });
    expect(plan({ modules_to_save: ["lm_head"] }).untied).toBe(false);
    const kept = plan({ modules_to_save: ["lm_head", "norm"], ensure_weight_tying: true }, "tiny-llama-tied");
    expect(kept).toMatchObject({ untied: false, keptTied: true });
    expect(kept.config.modules_to_save).toEqual(["norm", "model.embed_tokens"]); // as PEFT writes it
    expect(kept.full.has("model.embed_tokens.weight")).toBe(true);
    expect(kept.full.has("lm_head.weight")).toBe(false);
  });

  it("shares the rows of a tied matrix", () => {
    const rows = (config: LoraConfigInput["trainable_token_indices"], model: string) =>
      plan({ trainable_token_indices: config }, model).rows;
    expect(rows([3, 5], "tiny-llama")).toEqual({ embedding: [3, 5], shared: false });
    expect(rows([3, 5], "tiny-llama-tied")).toEqual({ embedding: [3, 5], shared: true });
    expect(rows({ embed_tokens: [3], lm_head: [3] }, "tiny-llama-tied")).toEqual({ embedding: [3], shared: true });
    expect(rows({ embed_tokens: [3], lm_head: [4] }, "tiny-llama-tied")).toEqual({
      embedding: [3],
      head: [4],
      shared: false,
    });
  });

  it("takes fan_in_fan_out from the model, and says so where the config has it otherwise", () => {
    expect(plan({}).config.fan_in_fan_out).toBe(false);
    expect(plan({ target_modules: ["c_attn"] }, "architectures/gpt2").config.fan_in_fan_out).toBe(true);
    expect(plan({ fan_in_fan_out: true }).notes).toEqual([
      "fan_in_fan_out is false: this model's weights are stored so",
    ]);
    expect(plan({ lora_bias: true }).notes[0]).toContain("cannot be merged");
    expect(plan({ ensure_weight_tying: true }).notes[0]).toContain("has no effect");
    expect(plan({ ensure_weight_tying: true }, "tiny-llama-tied").notes[0]).toContain("has no effect");
  });

  it.each<[string, LoraConfigInput, string, { model?: string; quantized?: boolean }?]>([
    [
      "an unknown module",
      { modules_to_save: ["classifier"] },
      "no module 'classifier' with weights. Its modules are named",
    ],
    [
      "an adapter on the embedding",
      { target_modules: ["q_proj", "embed_tokens"] },
      "the embedding 'model.embed_tokens'",
    ],
    ["both on one layer", { modules_to_save: ["proj"] }, "in full, which gets an adapter as well"],
    ["quantized modules", { modules_to_save: ["o_proj"] }, "whose weights are quantized", { quantized: true }],
    ["pissa on quantized weights", { init_lora_weights: "pissa" }, "which are quantized", { quantized: true }],
    ["an unknown token", { trainable_token_indices: [384] }, "384 tokens, and none numbered 384"],
    [
      "rows of another module",
      { trainable_token_indices: { q_proj: [1] } },
      "neither the embedding, 'model.embed_tokens'",
    ],
    [
      "rows of what is trained in full",
      { trainable_token_indices: [1], modules_to_save: ["embed_tokens"] },
      "is trained in full by modules_to_save",
    ],
    [
      "rows below an adapter",
      { trainable_token_indices: { lm_head: [1] }, target_modules: ["lm_head"] },
      "PEFT cannot have both",
    ],
    [
      "different rows of one matrix",
      { trainable_token_indices: { embed_tokens: [1], lm_head: [2] }, ensure_weight_tying: true },
      "need the same tokens",
      { model: "tiny-llama-tied" },
    ],
    [
      "an adapter on a head that is to be kept tied",
      { target_modules: ["lm_head"], modules_to_save: ["norm"], ensure_weight_tying: true },
      "would need the same one on the embedding",
      { model: "tiny-llama-tied" },
    ],
  ])("refuses %s", (_, config, words, { model, quantized } = {}) => {
    expect(() => plan(config, model, quantized)).toThrow(words);
  });
});
