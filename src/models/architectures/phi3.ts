import { z } from "zod";
import { UserError } from "../../support/errors.js";
import { page } from "./architecture.js";
import { decoderFields, dropout, positive, size, sizeOrNull } from "./fields.js";
import { headsOf, linear, llamaLike, rmsNorm, windowsOf } from "./parts.js";
import { parametersOf, rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 32_064,
    hidden_size: 3072,
    intermediate_size: 8192,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    max_position_embeddings: 4096,
    pad_token_id: 32_000,
  }),
  original_max_position_embeddings: size.default(4096),
  rms_norm_eps: positive.default(1e-5),
  sliding_window: sizeOrNull(null),
  resid_pdrop: dropout(), // embd_pdrop is kept by transformers' class and never applied
});

type Phi3Config = z.output<typeof config>;

/** The first files call longrope by other names. */
function longrope(config: Phi3Config) {
  const { rope_type, type, ...parameters } = parametersOf(config);
  const name = rope_type ?? type ?? "default";
  if (["longrope", "su", "yarn"].includes(name)) return { ...parameters, rope_type: "longrope" };
  if (name === "default") return parameters;
  throw new UserError(`rope_parameters: rope_type '${name}' is not supported for phi3; default and longrope are`);
}

export const phi3 = page({
  family: "Phi",
  models: "Phi-3 mini and medium, Phi-3.5-mini, Phi-4, Phi-4-mini",
  special: "one projection for q, k and v, one for gate and up; partial rotation, longrope",
  classes: { phi3: "Phi3ForCausalLM" },
  config,
  describe: (config, root) => {
    const { hidden_size: hidden, intermediate_size: inner, resid_pdrop: dropout } = config;
    const { heads, kvHeads, headDim } = headsOf(config);
    const windows = windowsOf(config, () => config.sliding_window !== null);
    return llamaLike(config, root, {
      norm: (path, size) => rmsNorm(path, size, config.rms_norm_eps),
      rope: rotation({ ...config, rope_scaling: longrope(config) }, headDim, { partial: true }),
      attention: (layer, path) => ({
        qkv: [linear(`${path}.qkv_proj`, hidden, (heads + 2 * kvHeads) * headDim)],
        joined: "by part",
        oFirst: true,
        window: windows[layer],
        dropout,
      }),
      mlp: (_, path) => ({ inputs: [linear(`${path}.gate_up_proj`, hidden, 2 * inner)], dropout }),
    });
  },
});
