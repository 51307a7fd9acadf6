/**
 * Draws a model of SmolLM2-135M's exact shape where the real one cannot be downloaded:
 *
 *   node examples/gsm8k/make-model.mjs FOLDER --text FILE.jsonl [--dtype bfloat16|float32] [--seed 0]
 *
 * Weights are normal with the real model's initializer_range, norms are 1. The tokenizer is made from the text.
 * Needs the built project (`npm run build`).
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeSafetensors } from "../../dist/files/safetensorsWriter.js";
import { parseModelConfig } from "../../dist/models/config.js";
import { weightsOf } from "../../dist/models/description.js";
import { Random } from "../quickstart/random.mjs";
import { readTexts, writeTokenizer } from "./tokenizer.mjs";

const smolLM2 = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 0,
  eos_token_id: 0,
  head_dim: 64,
  hidden_act: "silu",
  hidden_size: 576,
  initializer_range: 0.041666666666666664,
  intermediate_size: 1536,
  max_position_embeddings: 8192,
  mlp_bias: false,
  model_type: "llama",
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 100000,
  tie_word_embeddings: true,
  vocab_size: 49152,
};

/** Bits of a normal sample in the dtype; bf16 is float32's upper half, rounded to the nearest even. */
function normalBytes(random, count, deviation, mean, dtype) {
  const values = new Float32Array(count).fill(mean);
  if (deviation > 0) for (let i = 0; i < count; i++) values[i] = deviation * random.normal();
  return dtype === "F32" ? new Uint8Array(values.buffer) : bf16Bytes(values);
}

function bf16Bytes(values) {
  const bits = new Uint32Array(values.buffer);
  const upper = Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
  return new Uint8Array(upper.buffer);
}

/** Every weight of the model by its name in the file, with the numbers drawn when it is written. */
function weights(config, random, dtype) {
  const description = parseModelConfig(JSON.stringify(config), "config.json");
  return weightsOf(description).map(({ name, role, shape }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const drawn = role === "norm" || role === "bias" ? 0 : config.initializer_range;
    const mean = role === "norm" ? 1 - description.finalNorm.offset : 0;
    return { name, dtype, shape, data: async () => normalBytes(random, count, drawn, mean, dtype) };
  });
}

/** Writes the model folder; `texts` are what its tokenizer is made from. */
export async function makeModel(folder, { texts, config = smolLM2, dtype = "bfloat16", seed = 0 }) {
  mkdirSync(folder, { recursive: true });
  writeTokenizer(folder, texts, config.vocab_size);
  writeFileSync(join(folder, "config.json"), `${JSON.stringify({ ...config, dtype }, null, 2)}\n`);
  const stored = dtype === "float32" ? "F32" : "BF16";
  await writeSafetensors(join(folder, "model.safetensors"), weights(config, new Random(seed), stored));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      text: { type: "string" },
      dtype: { type: "string", default: "bfloat16" },
      seed: { type: "string", default: "0" },
    },
  });
  const [folder] = positionals;
  const seed = Number(values.seed);
  const usage = "node examples/gsm8k/make-model.mjs FOLDER --text FILE.jsonl [--dtype bfloat16|float32] [--seed 0]";
  const problem =
    positionals.length !== 1 || values.text === undefined
      ? usage
      : !["bfloat16", "float32"].includes(values.dtype)
        ? `--dtype ${values.dtype}: bfloat16 or float32`
        : !Number.isInteger(seed)
          ? `--seed ${values.seed}: a whole number`
          : !existsSync(values.text)
            ? `--text ${values.text}: there is no such file`
            : existsSync(join(folder, "model.safetensors"))
              ? `${folder} has a model.safetensors already; choose another folder`
              : undefined;
  if (problem) {
    console.error(problem);
    process.exitCode = 2;
  } else {
    await makeModel(folder, { texts: readTexts(values.text), dtype: values.dtype, seed });
    console.log(`${folder}: SmolLM2-135M's shape, ${values.dtype}, random weights of seed ${seed}`);
  }
}
