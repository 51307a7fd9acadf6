import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, dropout, flag, only, positive } from "./fields.js";
import { headsOf, layerNorm, linear, llamaLike } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z
  .looseObject({
    ...decoderFields({
      vocab_size: 50_432,
      hidden_size: 6144,
      intermediate_size: 24_576,
      num_hidden_layers: 44,
      num_attention_heads: 64,
      max_position_embeddings: 2048,
      hidden_act: "gelu",
    }),
    head_dim: only([], "heads have hidden_size / num_attention_heads numbers in this model type"),
    layer_norm_eps: positive.default(1e-5),
    hidden_dropout: dropout(),
    attention_bias: flag(true),
    use_parallel_residual: flag(true),
    rotary_pct: positive.max(1).default(0.25),
    rotary_emb_base: positive.default(10_000),
  })
  .transform((config) => ({
    ...config,
    head_dim: null,
    num_key_value_heads: null, // the class ignores it
    pad_token_id: null, // its embedding has no padding_idx
    rope_theta: config.rotary_emb_base,
    partial_rotary_factor: config.rotary_pct,
  }));

export const gptNeox = page({
  family: "GPT-NeoX",
  models: "Pythia, GPT-NeoX, Dolly v2",
  special: "LayerNorm, one projection for q, k and v, attention and MLP side by side, partial rotation",
  classes: { gpt_neox: "GPTNeoXForCausalLM" },
  config,
  describe: (config) => {
    const { hidden_size: hidden, intermediate_size: inner, hidden_dropout: dropout, attention_bias: bias } = config;
    const norm = (path: string) => layerNorm(path, hidden, config.layer_norm_eps);
    return {
      ...llamaLike(config, "gpt_neox", {
        names: { attention: "attention" },
        norm,
        rope: rotation(config, headsOf(config).headDim, { partial: true }),
        attention: (_, path) => ({
          qkv: [linear(`${path}.query_key_value`, hidden, 3 * hidden, bias)],
          joined: "by head",
          o: linear(`${path}.dense`, hidden, hidden, bias),
          dropout,
        }),
        mlp: (_, path) => ({
          kind: "plain",
          inputs: [linear(`${path}.dense_h_to_4h`, hidden, inner, true)],
          down: linear(`${path}.dense_4h_to_h`, inner, hidden, true),
          dropout,
        }),
        layer: { parallel: config.use_parallel_residual },
        embedding: { path: "gpt_neox.embed_in", dropout },
        defaultTargets: ["query_key_value"],
      }),
      finalNorm: norm("gpt_neox.final_layer_norm"),
      spellings: [[["lm_head.", "embed_out."]]],
      others: { ignored: /\.attention\.(masked_)?bias$/ }, // causal masks of older versions
    };
  },
});
