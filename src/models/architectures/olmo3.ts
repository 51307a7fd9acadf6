import { z } from "zod";
import { page } from "./architecture.js";
import { layerTypes, ropeParameters, size } from "./fields.js";
import { olmoChanges, olmoFields } from "./olmo2.js";
import { headsOf, llamaLike, slidingLayers } from "./parts.js";
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
  classes: { olmo3: "Olmo3ForCausalLM" },
  config,
  describe: ({ rope_parameters: ropes, ...config }, root) => {
    const { headDim } = headsOf(config);
    const sliding = slidingLayers(config, (layer) => (layer + 1) % 4 !== 0);
    const theta = 500_000;
    // rope_scaling and rope_theta, the older spelling, are those of the full layers.
    const full = rotation(config, headDim, { theta }, { ...ropes?.full_attention, ...config.rope_scaling });
    const windowed = rotation({ ...config, rope_theta: null }, headDim, { theta }, ropes?.sliding_attention ?? {});
    const changes = olmoChanges(config);
    return llamaLike(config, root, {
      ...changes,
      attention: (layer, path, parent) => ({
        ...changes.attention(layer, path, parent),
        rope: sliding[layer] ? windowed : full,
        window: sliding[layer] ? config.sliding_window : undefined,
      }),
    });
  },
});
