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
  embedding_multiplier: z.number().default(1),
  logits_scaling: positive.default(1),
  residual_multiplier: z.number().default(1),
  attention_multiplier: z.number().default(1),
});

export const granite = page({
  family: "Granite",
  models: "Granite 3.0 to 3.3",
  special: "multipliers of embeddings, scores, residuals and logits",
  classes: { granite: "GraniteForCausalLM" },
  config,
  describe: (config, root) =>
    llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation(config, headsOf(config).headDim),
      biases: { qkv: config.attention_bias, o: config.attention_bias, mlp: config.mlp_bias },
      attention: () => ({ scale: config.attention_multiplier }),
      layer: { residualScale: config.residual_multiplier },
      embedding: { scale: config.embedding_multiplier, scaledAfter: true },
      head: { scale: 1 / config.logits_scaling },
    }),
});
