import { z } from "zod";
import { page } from "./architecture.js";
import { activation, layerTypes, positive, sizeOrNull } from "./fields.js";
import { gemmaFields } from "./gemma.js";
import { type Changes, headsOf, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

/** What Gemma 2 and 3 have in common. */
export const gemma2Fields = (absent: Parameters<typeof gemmaFields>[0]) => ({
  ...gemmaFields(absent),
  hidden_activation: activation("gelu_pytorch_tanh"), // hidden_act, which some files have too, is not used
  query_pre_attn_scalar: positive.default(256),
  sliding_window: sizeOrNull(4096),
  layer_types: layerTypes,
});
const config = z.looseObject({
  ...gemma2Fields({
    vocab_size: 256_000,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    max_position_embeddings: 8192,
  }),
  attn_logit_softcapping: positive.nullable().default(50),
  final_logit_softcapping: positive.nullable().default(30),
});

/** Gemma 2's structure: each half has a norm after it, too. */
export function gemma2Changes(
  config: Omit<z.output<z.ZodObject<ReturnType<typeof gemma2Fields>>>, "rope_parameters">,
): Pick<Changes, "norm" | "biases" | "embedding" | "defaultTargets"> & Required<Pick<Changes, "attention" | "mlp">> {
  const norm = (path: string, size: number) => rmsNorm(path, size, config.rms_norm_eps, 1);
  const ofHidden = (path: string) => norm(path, config.hidden_size);
  return {
    norm,
    biases: { qkv: config.attention_bias, o: config.attention_bias },
    embedding: { scale: Math.sqrt(config.hidden_size) },
    attention: (_layer, _path, parent) => ({
      scale: 1 / Math.sqrt(config.query_pre_attn_scalar),
      postNorm: ofHidden(`${parent}.post_attention_layernorm`),
    }),
    mlp: (_layer, _path, parent) => ({
      activation: config.hidden_activation,
      norm: ofHidden(`${parent}.pre_feedforward_layernorm`),
      postNorm: ofHidden(`${parent}.post_feedforward_layernorm`),
    }),
    defaultTargets: ["q_proj", "v_proj"],
  };
}

export const gemma2 = page({
  family: "Gemma",
  models: "Gemma 2",
  special: "soft caps, a window in every second layer, a norm after each half",
  classes: { gemma2: "Gemma2ForCausalLM" },
  config,
  describe: (config, root) => {
    const changes = gemma2Changes(config);
    const windows = windowsOf(config, (layer) => layer % 2 === 0);
    return llamaLike(config, root, {
      ...changes,
      rope: rotation(config, headsOf(config).headDim),
      attention: (layer, path, parent) => ({
        ...changes.attention(layer, path, parent),
        window: windows[layer],
        softcap: config.attn_logit_softcapping ?? undefined,
      }),
      head: { softcap: config.final_logit_softcapping ?? undefined },
    });
  },
});
