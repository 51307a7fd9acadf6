import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, dropout, flag, positive } from "./fields.js";
import { headsOf, layerNorm, linear, llamaLike } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 51_200,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 24,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
    hidden_act: "gelu_new",
  }),
  layer_norm_eps: positive.default(1e-5),
  qk_layernorm: flag(false),
  resid_pdrop: dropout(),
  embd_pdrop: dropout(),
});

export const phi = page({
  family: "Phi",
  models: "Phi-1, Phi-1.5, Phi-2",
  special: "LayerNorm, attention and MLP side by side, biases everywhere, partial rotation",
  classes: { phi: "PhiForCausalLM" },
  config,
  describe: (config, root) => {
    const { hidden_size: hidden, intermediate_size: inner, resid_pdrop: dropout } = config;
    const { heads, headDim } = headsOf(config);
    const norm = (path: string, size: number) => layerNorm(path, size, config.layer_norm_eps);
    const described = llamaLike(config, root, {
      norm,
      rope: rotation(config, headDim, { partial: true, share: 0.5 }),
      biases: { qkv: true, head: true },
      layer: { parallel: true },
      embedding: { dropout: config.embd_pdrop },
      attention: (_, path) => ({
        o: linear(`${path}.dense`, heads * headDim, hidden, true),
        qkNorm: config.qk_layernorm
          ? { q: norm(`${path}.q_layernorm`, headDim), k: norm(`${path}.k_layernorm`, headDim), over: "each head" }
          : undefined,
        dropout,
      }),
      mlp: (_, path, parent) => ({
        kind: "plain",
        norm: norm(`${parent}.input_layernorm`, hidden), // the attention's
        inputs: [linear(`${path}.fc1`, hidden, inner, true)],
        down: linear(`${path}.fc2`, inner, hidden, true),
        dropout,
      }),
      defaultTargets: ["q_proj", "v_proj", "fc1", "fc2"],
    });
    return { ...described, finalNorm: norm(`${root}.final_layernorm`, hidden) };
  },
});
