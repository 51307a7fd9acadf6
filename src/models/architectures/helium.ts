import { z } from "zod";
import { UserError } from "../../support/errors.js";
import { page } from "./architecture.js";
import { decoderFields, flag, positive } from "./fields.js";
import { headsOf, llamaLike, rmsNorm } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 48_000,
    hidden_size: 2560,
    intermediate_size: 7040,
    num_hidden_layers: 24,
    num_attention_heads: 20,
    num_key_value_heads: 20,
    head_dim: 128,
    max_position_embeddings: 4096,
    pad_token_id: 3,
  }),
  rms_norm_eps: positive.default(1e-8),
  attention_bias: flag(false),
  mlp_bias: flag(false),
});

export const helium = page({
  family: "Helium",
  models: "Helium 1 2B",
  special: "turns neighbouring pairs",
  classes: { helium: "HeliumForCausalLM" },
  config,
  describe: (config, root) => {
    const { heads, headDim } = headsOf(config);
    if (heads * headDim !== config.hidden_size) {
      throw new UserError(
        `num_attention_heads ${heads} times head_dim ${headDim} is not hidden_size ${config.hidden_size}, as this model type needs`,
      );
    }
    return llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation(config, headDim, { theta: 100_000, interleaved: true }),
      biases: { qkv: config.attention_bias, mlp: config.mlp_bias },
    });
  },
});
