import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, dropout, flag, only, positive } from "./fields.js";
import { headsOf, layerNorm, llamaLike } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z
  .looseObject({
    ...decoderFields({
      vocab_size: 50_304,
      hidden_size: 2560,
      intermediate_size: 6912,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      max_position_embeddings: 4096,
    }),
    head_dim: only([], "heads have hidden_size / num_attention_heads numbers in this model type"),
    layer_norm_eps: positive.default(1e-5),
    use_qkv_bias: flag(false),
    qk_layernorm: only([false], "a norm for each head with weights of its own is not built"),
    use_parallel_residual: flag(false),
    hidden_dropout: dropout(),
  })
  .transform((config) => ({ ...config, head_dim: null }));

export const stablelm = page({
  family: "StableLM",
  models: "StableLM 3B, StableLM 2 1.6B, StableLM Zephyr 3B",
  special: "LayerNorm, partial rotation",
  classes: { stablelm: "StableLmForCausalLM" },
  config,
  describe: (config, root) => {
    const norm = (path: string) => layerNorm(path, config.hidden_size, config.layer_norm_eps);
    const { use_parallel_residual: parallel } = config;
    return llamaLike(config, root, {
      norm,
      rope: rotation(config, headsOf(config).headDim, { share: 0.25, partial: true }),
      biases: { qkv: config.use_qkv_bias },
      mlp: (_, __, parent) => ({
        dropout: config.hidden_dropout,
        norm: norm(`${parent}.${parallel ? "input" : "post_attention"}_layernorm`),
      }),
      layer: { parallel },
      defaultTargets: ["q_proj", "v_proj"],
    });
  },
});
