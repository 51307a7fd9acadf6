import { z } from "zod";
import { page } from "./architecture.js";
import { type DecoderConfig, decoderFields, flag, positive } from "./fields.js";
import { type Changes, headsOf, llamaLike, rmsNorm } from "./parts.js";
import { rotation } from "./rotation.js";

/** Olmo3's, too. */
export const olmoFields = {
  ...decoderFields({
    vocab_size: 50_304,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
    pad_token_id: 1,
  }),
  rms_norm_eps: positive.default(1e-5),
  attention_bias: flag(false),
};

/** Norms after each half instead of before it, and of all heads of q and k together. */
export function olmoChanges(config: DecoderConfig & { rms_norm_eps: number; attention_bias: boolean }) {
  const { hidden_size: hidden, attention_bias: bias } = config;
  const { heads, kvHeads, headDim } = headsOf(config);
  const norm = (path: string, size: number) => rmsNorm(path, size, config.rms_norm_eps);
  return {
    norm,
    biases: { qkv: bias, o: bias },
    attention: (_, path, parent) => ({
      norm: undefined,
      postNorm: norm(`${parent}.post_attention_layernorm`, hidden),
      qkNorm: {
        q: norm(`${path}.q_norm`, heads * headDim),
        k: norm(`${path}.k_norm`, kvHeads * headDim),
        over: "all heads",
      },
    }),
    mlp: (_, __, parent) => ({ norm: undefined, postNorm: norm(`${parent}.post_feedforward_layernorm`, hidden) }),
  } satisfies Changes;
}

export const olmo2 = page({
  family: "OLMo",
  models: "OLMo 2",
  special: "norms after each half, and of all heads of q and k together",
  classes: { olmo2: "Olmo2ForCausalLM" },
  config: z.looseObject(olmoFields),
  describe: (config, root) =>
    llamaLike(config, root, { ...olmoChanges(config), rope: rotation(config, headsOf(config).headDim) }),
});
