import { z } from "zod";
import { UserError } from "../../support/errors.js";
import { page } from "./architecture.js";
import { decoderFields, positive, type RopeParameters, sizeOrNull } from "./fields.js";
import { headsOf, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { parametersOf, rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 131_072,
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 34,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 262_144,
    pad_token_id: 11,
  }),
  rms_norm_eps: positive.default(1e-5),
  sliding_window: sizeOrNull(null),
});

/** The class's, for a config that has none. */
const ROPE: RopeParameters = {
  rope_type: "yarn",
  rope_theta: 1_000_000,
  factor: 16,
  original_max_position_embeddings: 16_384,
  beta_fast: 32,
  beta_slow: 1,
  mscale: 1,
  mscale_all_dim: 1,
  llama_4_scaling_beta: 0.1,
};

export const ministral3 = page({
  family: "Mistral",
  models: "Ministral 3 (their text part)",
  special: "q grows with the position",
  classes: { ministral3: "Ministral3ForCausalLM" },
  config,
  describe: (config, root) => {
    const keys = { ...config, rope_parameters: config.rope_parameters ?? ROPE };
    const rope = rotation(keys, headsOf(config).headDim);
    const beta = parametersOf(keys).llama_4_scaling_beta;
    if (beta == null) throw new UserError("rope_parameters: a ministral3 model needs llama_4_scaling_beta");
    const windows = windowsOf(config, () => config.sliding_window !== null);
    return llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope,
      attention: (layer) => ({ window: windows[layer], queryScale: { beta, every: rope.originalMaxPositions } }),
    });
  },
});
