import { z } from "zod";
import { UserError } from "../../support/errors.js";
import { page } from "./architecture.js";
import { decoderFields, flag, layerTypes, positive, size, sizeOrNull } from "./fields.js";
import { headsOf, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 128_256,
    hidden_size: 2048,
    intermediate_size: 11_008,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    max_position_embeddings: 32_768,
    pad_token_id: 128_004,
    tie_word_embeddings: true,
  }),
  rms_norm_eps: positive.default(1e-6),
  attention_bias: flag(false),
  mlp_bias: flag(false),
  no_rope_layers: z.array(z.number().int()).nullish(),
  no_rope_layer_interval: size.default(4),
  use_sliding_window: flag(false),
  sliding_window: sizeOrNull(null),
  layer_types: layerTypes,
});

type SmolLM3Config = z.output<typeof config>;

/** Which layers turn: those that no_rope_layers has a 1 for, in spite of its name. */
function turnedLayers({ num_hidden_layers: layers, no_rope_layers: given, ...config }: SmolLM3Config) {
  if (!given) return Array.from({ length: layers }, (_, i) => (i + 1) % config.no_rope_layer_interval !== 0);
  if (given.length === layers) return given.map((turned) => turned !== 0);
  throw new UserError(`no_rope_layers has ${given.length} entries, num_hidden_layers is ${layers}`);
}

export const smollm3 = page({
  family: "SmolLM3",
  models: "SmolLM3",
  special: "every fourth layer has no rotation",
  classes: { smollm3: "SmolLM3ForCausalLM" },
  config,
  describe: (config, root) => {
    const turned = turnedLayers(config);
    const slides = config.use_sliding_window && config.sliding_window !== null;
    const windows = windowsOf(config, (layer) => slides && !turned[layer]);
    const rope = rotation(config, headsOf(config).headDim, { theta: 2_000_000 });
    return llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      biases: { qkv: config.attention_bias, o: config.attention_bias, mlp: config.mlp_bias },
      attention: (layer) => ({ window: windows[layer], rope: turned[layer] ? rope : undefined }),
    });
  },
});
