import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, flag, positive } from "./fields.js";
import { headsOf, llamaLike, rmsNorm } from "./parts.js";
import { parametersOf, rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 290_943,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
    pad_token_id: 0,
  }),
  rms_norm_eps: positive.default(1e-5),
  attention_bias: flag(false),
});

export const hunyuan = page({
  family: "Hunyuan",
  models: "Hunyuan 0.5B, 1.8B, 4B and 7B",
  special: "norms of q and k after their rotation",
  classes: { hunyuan_v1_dense: "HunYuanDenseV1ForCausalLM" },
  config,
  describe: (config, root) => {
    const { headDim } = headsOf(config);
    const norm = (path: string, size: number) => rmsNorm(path, size, config.rms_norm_eps);
    const rope = rotation(config, headDim);
    const { alpha } = parametersOf(config);
    return llamaLike(config, root, {
      norm,
      rope: alpha && rope.type === "dynamic" ? { ...rope, alpha } : rope,
      biases: { qkv: config.attention_bias, o: config.attention_bias },
      attention: (_, path) => ({
        qkNorm: {
          q: norm(`${path}.query_layernorm`, headDim),
          k: norm(`${path}.key_layernorm`, headDim),
          over: "each turned head",
        },
      }),
    });
  },
});
