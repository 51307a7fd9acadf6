import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, layerTypes, positive, sizeOrNull } from "./fields.js";
import { type Described, headsOf, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    max_position_embeddings: 131_072,
  }),
  rms_norm_eps: positive.default(1e-6),
  sliding_window: sizeOrNull(4096), // null: none
  layer_types: layerTypes,
});

type MistralConfig = z.output<typeof config>;

function describe(config: MistralConfig, root: string, defaultTargets?: string[]): Described {
  const windows = windowsOf(config, () => config.sliding_window !== null);
  return llamaLike(config, root, {
    norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
    rope: rotation(config, headsOf(config).headDim),
    attention: (layer) => ({ window: windows[layer] }),
    defaultTargets,
  });
}

export const mistral = page({
  family: "Mistral",
  models: "Mistral 7B, Mistral NeMo, Zephyr",
  special: "a window in every layer",
  classes: { mistral: "MistralForCausalLM" },
  config,
  // transformers takes a config with layer_types for a Ministral, for which PEFT knows no targets.
  describe: (config, root) =>
    describe(config, root, config.layer_types === undefined ? ["q_proj", "v_proj"] : undefined),
});

export const ministral = page({
  family: "Mistral",
  models: "Ministral 8B (2410)",
  special: "a window in some layers",
  classes: { ministral: "MinistralForCausalLM" },
  config,
  describe: (config, root) => describe(config, root),
});
