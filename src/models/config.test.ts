import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { parseModelConfig } from "./config.js";
import { weightsOf } from "./description.js";

const parse = (config: object) => parseModelConfig(JSON.stringify(config), "config.json");
const attentionOf = (config: object) =>
  parse({ num_hidden_layers: 4, ...config }).layers.map(({ attention }) => attention);
const windowsOf = (config: object) => attentionOf(config).map(({ window }) => window);

function errorOf(config: object): string {
  try {
    parse(config);
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return (error as Error).message;
  }
  return expect.fail("the config was read");
}

describe("a config that would be computed wrongly is refused, with key and value", () => {
  it.each<[object, RegExp]>([
    [{ hidden_size: 100, num_attention_heads: 3 }, /hidden_size 100 is not a multiple of num_attention_heads 3/],
    [
      { num_attention_heads: 6, num_key_value_heads: 4 },
      /num_attention_heads 6 is not a multiple of num_key_value_heads 4/,
    ],
    [{ head_dim: 7 }, /head_dim 7 is not an even number/],
    [{ hidden_size: 0 }, /hidden_size: /],
    [{ hidden_act: "mish" }, /hidden_act: 'mish' is not supported; silu, /],
    [
      { rope_scaling: { rope_type: "ntk", factor: 2 } },
      /rope_parameters: rope_type 'ntk' is not supported \(known: default, /,
    ],
    [{ rope_scaling: { type: "linear" } }, /rope_parameters: rope_type 'linear' needs a factor/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor 0.5 is not supported for this model type/],
    [{ rope_parameters: { full_attention: { rope_theta: 5 } } }, /full_attention: this model type has one rotation/],
    [{ is_causal: false }, /is_causal: false is not supported: slimtune trains causal models/],
    [{ per_layer_config: { 0: { head_dim: 8 } } }, /per_layer_config: \{"0":.*is not supported/],
    [{ model_type: "qwen2", use_sliding_window: true, sliding_window: 0 }, /sliding_window: /],
    [{ model_type: "qwen2", layer_types: ["full_attention"] }, /layer_types has 1 entries, num_hidden_layers is 32/],
    [
      { model_type: "qwen2", num_hidden_layers: 1, layer_types: ["mamba"] },
      /layer_types\[0]: "mamba" is not supported/,
    ],
    [
      { model_type: "qwen2", num_hidden_layers: 1, layer_types: ["sliding_attention"] },
      /sliding_window: there is none/,
    ],
    [{ model_type: "gemma2", sliding_window: null }, /sliding_window: there is none/],
    [{ model_type: "gemma2", use_bidirectional_attention: true }, /use_bidirectional_attention: true is not supported/],
    [
      { model_type: "gemma3_text", rope_parameters: { rope_type: "linear", factor: 8 } },
      /rope_parameters.rope_type: "linear"/,
    ],
    [{ model_type: "ministral3", rope_parameters: { rope_theta: 5 } }, /a ministral3 model needs llama_4_scaling_beta/],
    [
      { model_type: "phi3", rope_scaling: { type: "linear", factor: 2 } },
      /rope_type 'linear' is not supported for phi3/,
    ],
    [
      { model_type: "phi3", rope_scaling: { type: "su", short_factor: [1], long_factor: [1] } },
      /short_factor has 1 numbers, rope_type 'longrope' needs 48/,
    ],
    [
      { model_type: "phi", partial_rotary_factor: 0.4 },
      /25 of the 64 numbers of a head are turned, which is not an even/,
    ],
    [{ model_type: "smollm3", no_rope_layers: [1, 0] }, /no_rope_layers has 2 entries, num_hidden_layers is 36/],
    [{ model_type: "gemma3" }, /text_config is missing, which a gemma3 model's text part is read from/],
    [
      { model_type: "mistral3", text_config: { model_type: "qwen2" } },
      /'qwen2' is not supported inside of a mistral3 model/,
    ],
    [{ model_type: "gemma3", text_config: { hidden_size: "1" } }, /text_config: hidden_size: /],
    [{ model_type: "mamba" }, /model_type 'mamba' is not supported; llama, .*docs\/models.md lists the models/],
  ])("%j", (config, message) => {
    const text = errorOf({ model_type: "llama", ...config });
    expect(text).toMatch(/^config\.json: /);
    expect(text).toMatch(message);
  });
});

describe("sparse configs get the defaults of transformers' class, and null is not absent", () => {
  it("Mistral's window", () => {
    expect(windowsOf({ model_type: "mistral" })).toEqual([4096, 4096, 4096, 4096]);
    expect(windowsOf({ model_type: "mistral", sliding_window: null })).toEqual(Array(4).fill(undefined));
  });

  it("a Mistral with layer_types is a Ministral, for which PEFT has no targets", () => {
    const layer_types = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"];
    const { layers, defaultTargets } = parse({ model_type: "mistral", num_hidden_layers: 4, layer_types });
    expect(layers.map(({ attention }) => attention.window)).toEqual([undefined, 4096, undefined, 4096]);
    expect(defaultTargets).toBeUndefined();
  });

  it("Qwen's window, which begins at max_window_layers", () => {
    const window = { model_type: "qwen3", sliding_window: 8, max_window_layers: 3 };
    expect(windowsOf(window)).toEqual(Array(4).fill(undefined));
    expect(windowsOf({ ...window, use_sliding_window: true })).toEqual([undefined, undefined, undefined, 8]);
  });

  it("SmolLM3's layers without rotation, which have the windows", () => {
    const layers = attentionOf({ model_type: "smollm3", use_sliding_window: true, sliding_window: 8 });
    expect(layers.map(({ rope }) => rope?.theta)).toEqual([2_000_000, 2_000_000, 2_000_000, undefined]);
    expect(layers.map(({ window }) => window)).toEqual([undefined, undefined, undefined, 8]);
  });

  it("Phi-3's pretrained length, beside the rope parameters", () => {
    const factors = { short_factor: Array(48).fill(1), long_factor: Array(48).fill(2) };
    const rope_scaling = { type: "su", ...factors, original_max_position_embeddings: 512 };
    const [first] = attentionOf({ model_type: "phi3", max_position_embeddings: 8192, rope_scaling });
    expect(first!.rope).toMatchObject({ type: "longrope", originalMaxPositions: 4096, factor: 2 });
  });

  it("Gemma's name for an activation that it does not mean", () => {
    const activation = (config: object) => parse(config).layers[0]!.mlp.activation;
    expect(activation({ model_type: "gemma", hidden_act: "gelu" })).toBe("gelu_tanh");
    expect(activation({ model_type: "gemma2", hidden_act: "relu", hidden_activation: "gelu" })).toBe("gelu");
  });

  it("Gemma 3's scaling in a file of version 4, which is the whole layers' and needs its newer name", () => {
    const factors = (rope_scaling: object) => {
      const layers = attentionOf({ model_type: "gemma3_text", num_hidden_layers: 6, rope_scaling });
      return [...new Set(layers.map(({ rope }) => `${rope!.theta} ${rope!.type} ${rope!.factor}`))];
    };
    expect(factors({ rope_type: "linear", factor: 8 })).toEqual(["10000 default 1", "1000000 linear 8"]);
    expect(factors({ type: "linear", factor: 8 })).toEqual(["10000 default 1", "1000000 default 8"]);
  });

  it("an empty rope_scaling says nothing", () => {
    const [first] = attentionOf({ model_type: "llama", rope_scaling: {}, rope_parameters: { rope_theta: 7 } });
    expect(first!.rope!.theta).toBe(7);
  });
});

describe("a text model inside a multimodal one", () => {
  const gemma3 = { model_type: "gemma3", text_config: { num_hidden_layers: 1, tie_word_embeddings: false } };

  it("is tied where the outer config says so", () => {
    const tied = (config: object) => parse(config).head.tied;
    expect(tied(gemma3)).toBe(true);
    expect(tied({ ...gemma3, tie_word_embeddings: true })).toBe(true);
    expect(tied({ ...gemma3, tie_word_embeddings: null })).toBe(false);
    expect(tied({ ...gemma3, tie_word_embeddings: false })).toBe(false);
  });

  it("has the paths of transformers' class, and no default targets", () => {
    const description = parse(gemma3);
    expect(description.modelType).toBe("gemma3");
    expect(description.defaultTargets).toBeUndefined();
    const names = weightsOf(description).map(({ name }) => name);
    expect(names[0]).toBe("model.language_model.embed_tokens.weight");
    expect(names[1]).toBe("model.language_model.layers.0.self_attn.q_proj.weight");
  });

  it("does not cap its logits, which its text class alone does", () => {
    const text_config = { num_hidden_layers: 1, final_logit_softcapping: 30 };
    expect(parse({ ...text_config, model_type: "gemma3_text" }).head.softcap).toBe(30);
    expect(parse({ model_type: "gemma3", text_config }).head.softcap).toBeUndefined();
  });
});
