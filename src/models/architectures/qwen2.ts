import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, flag, layerTypes, positive, size, sizeOrNull } from "./fields.js";
import { headsOf, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

/** What Qwen2 and Qwen3 have in common. */
export const qwenFields = {
  ...decoderFields({
    vocab_size: 151_936,
    hidden_size: 4096,
    intermediate_size: 22_016,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    max_position_embeddings: 32_768,
  }),
  rms_norm_eps: positive.default(1e-6),
  use_sliding_window: flag(false),
  sliding_window: sizeOrNull(4096),
  max_window_layers: size.or(z.literal(0)).default(28),
  layer_types: layerTypes,
};
const config = z.looseObject(qwenFields);

type QwenConfig = z.output<typeof config>;

/** Layers from max_window_layers on see a window, where the config wants windows at all. */
export function qwenWindows(config: QwenConfig): (number | undefined)[] {
  const window = config.use_sliding_window ? config.sliding_window : null;
  return windowsOf(
    { ...config, sliding_window: window },
    (layer) => window !== null && layer >= config.max_window_layers,
  );
}

export const qwen2 = page({
  family: "Qwen",
  models: "Qwen 1.5, 2 and 2.5, QwQ",
  special: "biases on q, k and v",
  classes: { qwen2: "Qwen2ForCausalLM" },
  config,
  describe: (config, root) => {
    const windows = qwenWindows(config);
    return llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation(config, headsOf(config).headDim),
      biases: { qkv: true },
      attention: (layer) => ({ window: windows[layer] }),
      defaultTargets: ["q_proj", "v_proj"],
    });
  },
});
