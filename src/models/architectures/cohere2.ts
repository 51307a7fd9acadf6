import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, flag, layerTypes, positive, size } from "./fields.js";
import { headsOf, layerNorm, llamaLike, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 256_000,
    hidden_size: 8192,
    intermediate_size: 22_528,
    num_hidden_layers: 40,
    num_attention_heads: 64,
    max_position_embeddings: 8192,
    pad_token_id: 0,
    tie_word_embeddings: true,
  }),
  layer_norm_eps: positive.default(1e-5),
  logit_scale: z.number().default(0.0625),
  attention_bias: flag(false),
  sliding_window: size.default(4096),
  sliding_window_pattern: size.default(4),
  layer_types: layerTypes,
});

export const cohere2 = page({
  family: "Cohere",
  models: "Command R7B",
  special: "LayerNorm without bias, attention and MLP side by side, rotation in layers with a window only",
  classes: { cohere2: "Cohere2ForCausalLM" },
  config,
  describe: (config, root) => {
    const norm = (path: string) => layerNorm(path, config.hidden_size, config.layer_norm_eps, false);
    const rope = rotation(config, headsOf(config).headDim, { interleaved: true });
    const windows = windowsOf(config, (layer) => (layer + 1) % config.sliding_window_pattern !== 0);
    return llamaLike(config, root, {
      norm,
      biases: { qkv: config.attention_bias, o: config.attention_bias },
      attention: (layer) => (windows[layer] ? { rope, window: windows[layer] } : {}), // full layers do not turn
      mlp: (_, __, parent) => ({ norm: norm(`${parent}.input_layernorm`) }),
      layer: { parallel: true },
      head: { scale: config.logit_scale },
    });
  },
});
