import { z } from "zod";
import { page } from "./architecture.js";
import { decoderFields, dropout, flag, positive, sizeOrNull } from "./fields.js";
import { headsOf, layerNorm, linear, llamaLike } from "./parts.js";
import { rotation } from "./rotation.js";

const config = z.looseObject({
  ...decoderFields({
    vocab_size: 49_152,
    hidden_size: 3072,
    intermediate_size: 12_288,
    num_hidden_layers: 30,
    num_attention_heads: 24,
    num_key_value_heads: 2,
    max_position_embeddings: 4096,
    hidden_act: "gelu_pytorch_tanh",
    tie_word_embeddings: true,
  }),
  norm_epsilon: positive.default(1e-5),
  sliding_window: sizeOrNull(null),
  residual_dropout: dropout(),
  embedding_dropout: dropout(),
  use_bias: flag(true),
});

export const starcoder2 = page({
  family: "StarCoder",
  models: "StarCoder2",
  special: "LayerNorm, a plain MLP, biases everywhere",
  classes: { starcoder2: "Starcoder2ForCausalLM" },
  config,
  describe: (config, root) => {
    const { hidden_size: hidden, intermediate_size: inner, residual_dropout: dropout, use_bias: bias } = config;
    return llamaLike(config, root, {
      norm: (path, size) => layerNorm(path, size, config.norm_epsilon),
      rope: rotation(config, headsOf(config).headDim),
      biases: { qkv: bias, o: bias },
      attention: () => ({ window: config.sliding_window ?? undefined, dropout }),
      mlp: (_, path) => ({
        kind: "plain",
        inputs: [linear(`${path}.c_fc`, hidden, inner, bias)],
        down: linear(`${path}.c_proj`, inner, hidden, bias),
        dropout,
      }),
      embedding: { dropout: config.embedding_dropout },
    });
  },
});
