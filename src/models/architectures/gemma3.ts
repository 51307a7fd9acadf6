import { z } from "zod";
import type { Rope } from "../rope.js";
import { page } from "./architecture.js";
import { only, positive, type RopeParameters, ropeParameters, size } from "./fields.js";
import { gemma2Changes, gemma2Fields } from "./gemma2.js";
import { headsOf, llamaLike, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...gemma2Fields({
    vocab_size: 262_208,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    max_position_embeddings: 131_072,
  }),
  // attn_logit_softcapping is left out: transformers' class keeps it and never applies it.
  final_logit_softcapping: positive.nullish(),
  sliding_window_pattern: size.default(6),
  rope_parameters: z
    .looseObject({
      full_attention: ropeParameters.nullish(),
      sliding_attention: ropeParameters.nullish(),
      rope_type: only([], "Gemma 3 has rope_parameters for full_attention and for sliding_attention"),
    })
    .nullish(),
  rope_local_base_freq: positive.nullish(),
});

type Gemma3Config = z.output<typeof config>;

/** Both rotations: layers that see everything have the config's scaling, layers with a window a base of their own. */
function rotations(config: Gemma3Config): { full: Rope; sliding: Rope } {
  const { full_attention: full, sliding_attention: sliding } = config.rope_parameters ?? {};
  const { max_position_embeddings, partial_rotary_factor } = config;
  const of = (parameters: RopeParameters, theta: number) => {
    const given = { ...parameters, truncate: undefined }; // transformers does not look for it here
    return rotation({ max_position_embeddings, partial_rotary_factor }, headsOf(config).headDim, { theta }, given);
  };
  const scaled = { ...(full ?? { rope_type: "default" }), ...config.rope_scaling };
  return {
    full: of(scaled, config.rope_theta ?? 1_000_000),
    sliding: of(sliding ?? {}, config.rope_local_base_freq ?? 10_000),
  };
}

export const gemma3 = page({
  family: "Gemma",
  models: "Gemma 3 270M and 1B",
  special: "two rotations, a window in five of six layers, norms of q and k",
  classes: { gemma3_text: "Gemma3ForCausalLM" },
  config,
  describe: (config, root) => {
    const { headDim } = headsOf(config);
    const changes = gemma2Changes(config);
    const windows = windowsOf(config, (layer) => (layer + 1) % config.sliding_window_pattern !== 0);
    const ropes = rotations(config);
    // transformers' multimodal class does not cap its logits.
    const softcap = root === "model" ? config.final_logit_softcapping : undefined;
    return llamaLike(config, root, {
      ...changes,
      attention: (layer, path, parent) => ({
        ...changes.attention(layer, path, parent),
        window: windows[layer],
        rope: windows[layer] === undefined ? ropes.full : ropes.sliding,
        qkNorm: {
          q: changes.norm(`${path}.q_norm`, headDim),
          k: changes.norm(`${path}.k_norm`, headDim),
          over: "each head",
        },
      }),
      head: { softcap: softcap ?? undefined },
    });
  },
});
