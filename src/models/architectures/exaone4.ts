import { z } from "zod";
import { UserError } from "../../support/errors.js";
import { page } from "./architecture.js";
import { decoderFields, layerTypes, positive, sizeOrNull } from "./fields.js";
import { headsOf, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 102_400,
    hidden_size: 4096,
    intermediate_size: 16_384,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    max_position_embeddings: 2048,
  }),
  rms_norm_eps: positive.default(1e-5),
  sliding_window: sizeOrNull(4096),
  sliding_window_pattern: z.union([z.number().int(), z.string()]).nullable().default(4),
  layer_types: layerTypes,
});

export const exaone4 = page({
  family: "EXAONE",
  models: "EXAONE 4.0 1.2B",
  special: "norms after each half and of q and k, layers without rotation",
  classes: { exaone4: "Exaone4ForCausalLM" },
  config,
  describe: (config, root) => {
    const { hidden_size: hidden, sliding_window: window, sliding_window_pattern: pattern } = config;
    const { headDim } = headsOf(config);
    const norm = (path: string, size: number) => rmsNorm(path, size, config.rms_norm_eps);
    const rope = rotation(config, headDim);
    const windows = windowsOf(config, (layer) => {
      if (window === null) return false;
      if (typeof pattern === "number" && pattern > 0) return (layer + 1) % pattern !== 0;
      // A pattern in letters ("LLLG") says nothing to transformers, which goes by layer_types.
      throw new UserError(
        `sliding_window_pattern ${JSON.stringify(pattern)} is not a number above 0: give layer_types`,
      );
    });
    return llamaLike(config, root, {
      norm,
      attention: (layer, path, parent) => ({
        norm: undefined,
        postNorm: norm(`${parent}.post_attention_layernorm`, hidden),
        qkNorm: { q: norm(`${path}.q_norm`, headDim), k: norm(`${path}.k_norm`, headDim), over: "each head" },
        window: windows[layer],
        rope: window === null || windows[layer] ? rope : undefined, // full layers beside windowed ones do not turn
      }),
      mlp: (_, __, parent) => ({ norm: undefined, postNorm: norm(`${parent}.post_feedforward_layernorm`, hidden) }),
    });
  },
});
