import { z } from "zod";
import { page } from "./architecture.js";
import { layerTypes, ropeParameters, size } from "./fields.js";
import { olmoChanges, olmoFields } from "./olmo2.js";
import { headsOf, llamaLike, windowsOf } from "./parts.js";
import { rotation } from "./rotation.js";

const { rope_parameters: _, ...fields } = olmoFields;
const config = z.looseObject({
  ...fields,
  /** By layer type. */
  rope_parameters: z
    .strictObject({ full_attention: ropeParameters.nullish(), sliding_attention: ropeParameters.nullish() })
    .nullish(),
  sliding_window: size.default(4096),
  layer_types: layerTypes,
});

export const olmo3 = page({
  family: "OLMo",
  models: "OLMo 3",
  special: "the same, and a window in three of four layers",
  classes: { olmo3: "Olmo3ForCausalLM" },
  config,
  describe: ({ rope_parameters: ropes, ...config }, root) => {
    const { headDim } = headsOf(config);
    const windows = windowsOf(config, (layer) => (layer + 1) % 4 !== 0);
    const theta = 500_000;
    // rope_scaling and rope_theta, the older spelling, are those of the full layers.
    // transformers does not look for truncate here.
    const scaled = { ...ropes?.full_attention, ...config.rope_scaling, truncate: undefined };
    const full = rotation(config, headDim, { theta }, scaled);
    const windowed = rotation({ ...config, rope_theta: null }, headDim, { theta }, ropes?.sliding_attention ?? {});
    const changes = olmoChanges(config);
    return llamaLike(config, root, {
      ...changes,
      attention: (layer, path, parent) => ({
        ...changes.attention(layer, path, parent),
        rope: windows[layer] ? windowed : full,
        window: windows[layer],
      }),
    });
  },
});
