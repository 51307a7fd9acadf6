import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, flag, positive } from "./fields.js";
import { headsOf, llamaLike, rmsNorm } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
  }),
  rms_norm_eps: positive.default(1e-6),
  attention_bias: flag(false),
  mlp_bias: flag(false),
});

export const llama = page({
  family: "Llama",
  models: "Llama 2 and 3, SmolLM and SmolLM2, TinyLlama, Yi",
  special: "every rope scaling of transformers 5.18",
  classes: { llama: "LlamaForCausalLM" },
  config,
  describe: (config, root) =>
    llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation(config, headsOf(config).headDim),
      biases: { qkv: config.attention_bias, o: config.attention_bias, mlp: config.mlp_bias },
      defaultTargets: ["q_proj", "v_proj"],
    }),
});
