import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, positive } from "./fields.js";
import { headsOf, llamaLike, rmsNorm } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z
  .looseObject({
    ...decoderFields({
      vocab_size: 103_424,
      hidden_size: 1024,
      intermediate_size: 3072,
      num_hidden_layers: 18,
      num_attention_heads: 16,
      num_key_value_heads: 2,
      head_dim: 128,
      max_position_embeddings: 131_072,
      pad_token_id: 0,
      tie_word_embeddings: true,
    }),
    rms_norm_eps: positive.default(1e-5),
    use_bias: z.boolean().nullish(),
  })
  .transform((config) => ({ ...config, attention_dropout: 0 })); // whatever the file says

export const ernie4_5 = page({
  family: "ERNIE",
  models: "ERNIE 4.5 0.3B",
  special: "turns neighbouring pairs",
  classes: { ernie4_5: "Ernie4_5ForCausalLM" },
  config,
  describe: (config, root) => {
    const bias = config.use_bias ?? false;
    return llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation(config, headsOf(config).headDim, { theta: 500_000, interleaved: true }),
      biases: { qkv: bias, o: bias, mlp: bias },
    });
  },
});
