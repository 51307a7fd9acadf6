/** What pages refuse, by the key and the value, and what they make of keys that need a second look. */
import { expect, it } from "vitest";
import { parseModelConfig, supportedTypes } from "../../src/models/config.js";
import { modelTypes } from "../support/architectures.js";
import { readGoldenJson } from "../support/goldens.js";

const parse = (config: Record<string, unknown>) => parseModelConfig(JSON.stringify(config), "config.json");

it.each<[string, Record<string, unknown>, string]>([
  ["cohere2", { sliding_window: null }, "sliding_window: "],
  ["cohere2", { pad_token_id: 256_000 }, "pad_token_id 256000 is not one of the 256000 tokens"],
  ["exaone4", { sliding_window_pattern: "LLLG" }, 'sliding_window_pattern "LLLG" is not a number above 0'],
  ["exaone4", { sliding_window_pattern: 0 }, "sliding_window_pattern 0 is not a number above 0"],
  [
    "exaone4",
    { num_hidden_layers: 1, layer_types: ["sliding_attention"], sliding_window: null },
    "sliding_window: there is none",
  ],
  ["exaone4", { layer_types: ["full_attention"] }, "layer_types has 1 entries, num_hidden_layers is 32"],
  ["gpt2", { add_cross_attention: true }, "add_cross_attention: true is not supported"],
  ["gpt2", { activation_function: "quick_gelu" }, "activation_function: 'quick_gelu' is not supported"],
  ["gpt2", { n_head: 5 }, "hidden_size 768 is not a multiple of num_attention_heads 5"],
  ["gpt_neox", { head_dim: 64 }, "head_dim: 64 is not supported"],
  [
    "granite",
    { num_attention_heads: 6, hidden_size: 96, num_key_value_heads: 4 },
    "is not a multiple of num_key_value",
  ],
  ["granite", { partial_rotary_factor: 0.5 }, "rope_parameters: partial_rotary_factor 0.5 is not supported"],
  ["helium", { head_dim: 64 }, "num_attention_heads 20 times head_dim 64 is not hidden_size 2560"],
  ["hunyuan_v1_dense", { rope_scaling: { type: "dynamic", factor: 1, alpha: -1 } }, "rope_scaling.alpha: "],
  ["olmo3", { rope_parameters: { rope_type: "default", rope_theta: 1e4 } }, "rope_parameters: Unrecognized keys"],
  ["stablelm", { qk_layernorm: true }, "qk_layernorm: true is not supported"],
  ["stablelm", { partial_rotary_factor: 0.01 }, "rope_parameters: 0 of the 80 numbers of a head are turned"],
  ["starcoder2", { sliding_window: 0 }, "sliding_window: "],
])("%s with %o", (model_type, changes, message) => {
  expect(() => parse({ model_type, ...changes })).toThrow(message);
});

it("windows that follow from patterns, and layers that do not turn", () => {
  const windows = (config: Record<string, unknown>) =>
    parse({ num_hidden_layers: 4, ...config }).layers.map(({ attention: { window, rope } }) => [window, rope?.type]);
  const turned = [8, "default"];
  const still = [undefined, undefined];
  expect(windows({ model_type: "exaone4", sliding_window: 8 })).toEqual([turned, turned, turned, still]);
  expect(windows({ model_type: "exaone4", sliding_window: null })).toEqual(Array(4).fill([undefined, "default"]));
  expect(windows({ model_type: "cohere2", sliding_window: 8, sliding_window_pattern: 2 })).toEqual([
    turned,
    still,
    turned,
    still,
  ]);
});

it("the older spelling of OLMo 3's rotation is that of the full layers", () => {
  const rope_scaling = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 };
  const { layers } = parse({ model_type: "olmo3", num_hidden_layers: 4, rope_scaling, rope_theta: 1e4 });
  // transformers takes the file's rope_theta for the full layers, and the class's for the others.
  const expected = [...Array(3).fill(["default", 500_000]), ["yarn", 10_000]];
  expect(layers.map(({ attention: { rope } }) => [rope?.type, rope?.theta])).toEqual(expected);
});

it("Hunyuan's alpha makes another base of the dynamic rotation", () => {
  const rope = (rope_scaling: Record<string, unknown>) =>
    parse({ model_type: "hunyuan_v1_dense", rope_scaling }).layers[0]!.attention.rope;
  expect(rope({ type: "dynamic", factor: 1, alpha: 1000 })).toMatchObject({ type: "dynamic", factor: 1, alpha: 1000 });
  expect(rope({ type: "dynamic", factor: 2, alpha: 0 })).not.toHaveProperty("alpha");
  expect(rope({ type: "linear", factor: 2, alpha: 1000 })).not.toHaveProperty("alpha");
});

it("original_max_position_embeddings beside the rotation's parameters counts before theirs", () => {
  const lists = { short_factor: Array(48).fill(1), long_factor: Array(48).fill(2) };
  const original = (model_type: string, rope_scaling: Record<string, unknown>) =>
    parse({ model_type, max_position_embeddings: 512, original_max_position_embeddings: 64, rope_scaling }).layers[0]!
      .attention.rope!.originalMaxPositions;
  expect(original("phi3", { rope_type: "longrope", ...lists, original_max_position_embeddings: 128 })).toBe(64);
  expect(original("llama", { rope_type: "yarn", factor: 4, original_max_position_embeddings: 128 })).toBe(64);
});

it("GLM's class ends at three tokens where the file names none", () => {
  const ends = (changes: object) => parse({ model_type: "glm", ...changes }).eosTokenIds;
  const classes = readGoldenJson<Record<string, { eos_token_id: number[] }>>("config-keys.json");
  expect(ends({})).toEqual(classes.glm!.eos_token_id);
  expect(ends({ eos_token_id: null })).toEqual(classes.glm!.eos_token_id);
  expect(ends({ eos_token_id: 2 })).toEqual([2]);
});

it("every supported type has a tiny variant, and a run", () => {
  const { runs } = readGoldenJson<{ runs: Record<string, { variant: string }> }>("architectures/runs.json");
  const run = Object.values(runs).map(({ variant }) => modelTypes[variant]!);
  expect([...new Set(Object.values(modelTypes))].sort()).toEqual(supportedTypes().sort());
  expect([...new Set(run)].sort()).toEqual(supportedTypes().sort());
});
