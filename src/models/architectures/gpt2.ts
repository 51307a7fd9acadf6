import { z } from "zod";
import { page } from "./architecture.js";
import { activation, dropout, eosTokenId, flag, only, positive, size, sizeOrNull } from "./fields.js";
import { layerNorm, linear, llamaLike } from "./parts.js";

const config = z.looseObject({
  vocab_size: size.default(50_257),
  n_positions: size.default(1024),
  n_embd: size.default(768),
  n_layer: size.default(12),
  n_head: size.default(12),
  // The class takes other models' names for these four, too, and prefers them.
  max_position_embeddings: size.optional(),
  hidden_size: size.optional(),
  num_hidden_layers: size.optional(),
  num_attention_heads: size.optional(),
  n_inner: sizeOrNull(null),
  activation_function: activation("gelu_new"),
  resid_pdrop: dropout(0.1),
  embd_pdrop: dropout(0.1),
  attn_pdrop: dropout(0.1),
  layer_norm_epsilon: positive.default(1e-5),
  scale_attn_weights: flag(true),
  scale_attn_by_inverse_layer_idx: flag(false),
  add_cross_attention: only([false], "attention to an encoder is not built"),
  tie_word_embeddings: flag(true),
  eos_token_id: eosTokenId,
});

export const gpt2 = page({
  family: "GPT-2",
  models: "GPT-2, DistilGPT-2, DialoGPT, Cerebras-GPT",
  special: "LayerNorm, learned positions, weights stored the other way round",
  classes: { gpt2: "GPT2LMHeadModel" },
  config,
  describe: (config) => {
    const hidden = config.hidden_size ?? config.n_embd;
    const inner = config.n_inner ?? 4 * hidden;
    const maxPositions = config.max_position_embeddings ?? config.n_positions;
    const decoder = {
      ...config,
      hidden_size: hidden,
      intermediate_size: inner,
      num_hidden_layers: config.num_hidden_layers ?? config.n_layer,
      num_attention_heads: config.num_attention_heads ?? config.n_head,
      num_key_value_heads: null,
      head_dim: null,
      max_position_embeddings: maxPositions,
      hidden_act: config.activation_function,
      attention_dropout: config.attn_pdrop,
      pad_token_id: null, // its embedding has no padding_idx
    };
    const norm = (path: string) => layerNorm(path, hidden, config.layer_norm_epsilon);
    const conv = (path: string, input: number, out: number) => ({
      ...linear(path, input, out, true),
      transposed: true,
    });
    const scaleOf = (layer: number) =>
      (config.scale_attn_weights ? Math.sqrt(decoder.num_attention_heads / hidden) : 1) /
      (config.scale_attn_by_inverse_layer_idx ? layer + 1 : 1);
    return {
      ...llamaLike(decoder, "transformer", {
        names: { layers: "h", attention: "attn" },
        norm,
        attention: (layer, path, parent) => ({
          norm: norm(`${parent}.ln_1`),
          qkv: [conv(`${path}.c_attn`, hidden, 3 * hidden)],
          joined: "by part",
          o: conv(`${path}.c_proj`, hidden, hidden),
          scale: scaleOf(layer),
          dropout: config.resid_pdrop,
        }),
        mlp: (_, path, parent) => ({
          kind: "plain",
          norm: norm(`${parent}.ln_2`),
          inputs: [conv(`${path}.c_fc`, hidden, inner)],
          down: conv(`${path}.c_proj`, inner, hidden),
          dropout: config.resid_pdrop,
        }),
        embedding: {
          path: "transformer.wte",
          dropout: config.embd_pdrop,
          positions: { path: "transformer.wpe", count: maxPositions },
        },
        defaultTargets: ["c_attn"],
      }),
      finalNorm: norm("transformer.ln_f"),
      spellings: [[["transformer.", ""]]],
      others: { ignored: /\.attn\.(masked_)?bias$/ }, // causal masks of older versions
    };
  },
});
