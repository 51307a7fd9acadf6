/** The quickstart's model before it has learned anything: its config.json, and random float32 weights. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSafetensors } from "../../dist/files/safetensorsWriter.js";
import { Random } from "./random.mjs";

export const modelConfig = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 1024,
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 64,
  max_position_embeddings: 512,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_parameters: { rope_type: "default", rope_theta: 10000 },
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
  initializer_range: 0.02,
  bos_token_id: null,
  eos_token_id: 0,
  pad_token_id: 3,
  dtype: "float32",
};

/** [name, shape] of every weight of the model. */
function weightShapes(config) {
  const { hidden_size: hidden, intermediate_size: inner, head_dim: head } = config;
  const shapes = [["model.embed_tokens.weight", [config.vocab_size, hidden]]];
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `model.layers.${i}`;
    shapes.push(
      [`${layer}.self_attn.q_proj.weight`, [config.num_attention_heads * head, hidden]],
      [`${layer}.self_attn.k_proj.weight`, [config.num_key_value_heads * head, hidden]],
      [`${layer}.self_attn.v_proj.weight`, [config.num_key_value_heads * head, hidden]],
      [`${layer}.self_attn.o_proj.weight`, [hidden, config.num_attention_heads * head]],
      [`${layer}.mlp.gate_proj.weight`, [inner, hidden]],
      [`${layer}.mlp.up_proj.weight`, [inner, hidden]],
      [`${layer}.mlp.down_proj.weight`, [hidden, inner]],
      [`${layer}.input_layernorm.weight`, [hidden]],
      [`${layer}.post_attention_layernorm.weight`, [hidden]],
    );
  }
  shapes.push(["model.norm.weight", [hidden]]);
  return shapes;
}

/** Norms start at 1 and everything else at N(0, initializer_range), as transformers does it. */
export async function initModel(folder) {
  const random = new Random(1);
  const entries = weightShapes(modelConfig).map(([name, shape]) => {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    for (let i = 0; i < values.length; i++) {
      values[i] = shape.length === 1 ? 1 : modelConfig.initializer_range * random.normal();
    }
    return { name, dtype: "F32", shape, data: async () => new Uint8Array(values.buffer) };
  });
  mkdirSync(folder, { recursive: true });
  await writeSafetensors(join(folder, "model.safetensors"), entries);
  writeFileSync(join(folder, "config.json"), `${JSON.stringify(modelConfig, null, 2)}\n`);
}
