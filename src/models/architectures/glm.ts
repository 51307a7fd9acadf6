import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, flag, positive } from "./fields.js";
import { headsOf, linear, llamaLike, rmsNorm } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 151_552,
    hidden_size: 4096,
    intermediate_size: 13_696,
    num_hidden_layers: 40,
    num_attention_heads: 32,
    num_key_value_heads: 2,
    head_dim: 128,
    max_position_embeddings: 131_072,
    pad_token_id: 151_329,
  }),
  rms_norm_eps: positive.default(1.5625e-7),
  attention_bias: flag(true),
});

export const glm = page({
  family: "GLM",
  models: "GLM-4 9B (its -hf folders), GLM-Edge 1.5B and 4B",
  special: "turns neighbouring pairs in half of each head; one projection for gate and up, biases on q, k and v",
  classes: { glm: "GlmForCausalLM" },
  config,
  describe: (config, root) => ({
    ...llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation(config, headsOf(config).headDim, { share: 0.5, partial: true, interleaved: true }),
      biases: { qkv: config.attention_bias },
      mlp: (_, path) => ({
        inputs: [linear(`${path}.gate_up_proj`, config.hidden_size, 2 * config.intermediate_size)],
      }),
    }),
    eosTokenIds: [config.eos_token_id ?? [151_329, 151_336, 151_338]].flat(), // the class's, also for null
  }),
});
