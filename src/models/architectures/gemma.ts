import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, flag, only, positive } from "./fields.js";
import { headsOf, llamaLike, rmsNorm } from "./parts.js";
import { rotation } from "./rotation.js";

/** What all Gemmas have in common. */
export const gemmaFields = (absent: Parameters<typeof decoderFields>[0]) => ({
  ...decoderFields({
    head_dim: 256,
    hidden_act: "gelu_pytorch_tanh",
    tie_word_embeddings: true,
    pad_token_id: 0,
    ...absent,
  }),
  rms_norm_eps: positive.default(1e-6),
  attention_bias: flag(false),
  use_bidirectional_attention: only([false], "slimtune trains causal models"),
});
const config = z.looseObject(
  gemmaFields({
    vocab_size: 256_000,
    hidden_size: 3072,
    intermediate_size: 24_576,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 16,
    max_position_embeddings: 8192,
  }),
);

export const gemma = page({
  family: "Gemma",
  models: "Gemma, CodeGemma",
  special: "norms of 1 + w, scaled embeddings",
  classes: { gemma: "GemmaForCausalLM" },
  config,
  describe: (config, root) => {
    // The first published files say "gelu" and mean its approximation.
    const activation = config.hidden_act === "gelu" ? "gelu_tanh" : config.hidden_act;
    return llamaLike({ ...config, hidden_act: activation }, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps, 1),
      rope: rotation(config, headsOf(config).headDim),
      biases: { qkv: config.attention_bias, o: config.attention_bias },
      embedding: { scale: Math.sqrt(config.hidden_size) },
      defaultTargets: ["q_proj", "v_proj"],
    });
  },
});
