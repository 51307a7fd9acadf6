/** A Hugging Face model folder as a model in memory: weights are mapped from their files, and converted where needed. */

import { resolveWeights, type WeightIndex } from "../files/weights.js";
import { UserError } from "../support/errors.js";
import { type Device, type DType, flush, keep, ops, scope, type Tensor } from "../torch/index.js";
import { CausalLM, type Parameter } from "./causalLM.js";
import { type ModelConfig, readModelConfig } from "./config.js";
import { Decoder, type DecoderLayer } from "./decoder.js";
import { Head } from "./head.js";
import { Linear } from "./linear.js";
import { float32Precision, type Precision } from "./precision.js";
import type { Quantization } from "./quantization.js";
import { QuantizedWeight } from "./quantizedWeight.js";
import { dtypeOf, StoredTensors } from "./storedTensors.js";
import { refuseUnexpected } from "./unexpected.js";

/** The weights of a folder, of the shapes that its config asks for. */
class ModelWeights {
  readonly #index: WeightIndex;
  readonly #stored: StoredTensors;
  readonly #used = new Set<string>();

  constructor(index: WeightIndex) {
    this.#index = index;
    this.#stored = new StoredTensors(index.headers);
  }

  /** The tensor as it lies in its file. */
  tensor(name: string, shape: number[]): { tensor: Tensor; dtype: DType } {
    const found = this.#stored.find(name);
    if (!found)
      throw new UserError(`model: ${this.#index.folder} has no weight '${name}', which its config.json asks for`);
    this.#used.add(name);
    const { file, info } = found;
    if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i])) {
      throw new UserError(
        `model: ${file}: weight '${name}' has the shape [${info.shape}], config.json asks for [${shape}]`,
      );
    }
    const dtype = dtypeOf(info);
    if (!["float32", "float16", "bfloat16"].includes(dtype)) {
      throw new UserError(`model: ${file}: weight '${name}' is ${info.dtype}; F32, F16 and BF16 weights are supported`);
    }
    return { tensor: this.#stored.read(found), dtype };
  }

  /** @throws UserError for weights that no module took */
  refuseOthers(tied: boolean): void {
    refuseUnexpected(this.#index, this.#used, tied);
  }

  close(): void {
    this.#stored.close();
  }
}

export interface LoadOptions {
  precision?: Precision;
  /** Default: the CPU. */
  device?: Device;
  /** All weights are to be trained: each is a float32 copy of its own. Otherwise all are frozen. */
  trained?: boolean;
  /** How the linear layers but the head store their weights; they are frozen then. */
  quantization?: Quantization;
}

/** Where a model's weights come from. */
interface WeightSource {
  dense(name: string, shape: number[]): Tensor;
  /** Of a linear layer other than the head: [out, in]. */
  linear(name: string, shape: number[]): Tensor | QuantizedWeight;
}

/**
 * Loads a model folder (config.json and safetensors).
 * @throws UserError naming the file and what is wrong in it
 */
export async function loadCausalLM(folder: string, options: LoadOptions = {}): Promise<CausalLM> {
  const { precision = float32Precision, device = "cpu", trained = false, quantization } = options;
  const config = await readModelConfig(folder);
  const files = new ModelWeights(await resolveWeights(folder));
  const parameters = new Map<string, Parameter>();
  const quantized: QuantizedWeight[] = [];
  try {
    const dense = (name: string, shape: number[]): Tensor => {
      const tensor = scope(() => {
        const { tensor: stored, dtype } = files.tensor(name, shape);
        const target = trained ? "float32" : precision.frozen === "as stored" ? dtype : precision.frozen;
        if (dtype !== target || device !== "cpu") return ops.toDevice(stored, device, target);
        return trained ? ops.clone(stored) : stored;
      });
      parameters.set(name, { name, tensor: keep(tensor), shape });
      return tensor;
    };
    // One weight after the other: the pages of the file that it was read from are given back before the next is read.
    const linear = (name: string, shape: number[]): Tensor | QuantizedWeight => {
      if (!quantization) return dense(name, shape);
      const weight = scope(() => new QuantizedWeight(files.tensor(name, shape).tensor, quantization, device));
      quantized.push(weight);
      return weight;
    };
    const { decoder, head, linears } = buildModel(config, precision, { device, trained }, { dense, linear });
    files.refuseOthers(config.tied);
    if (precision.frozen === "float16" && !trained) await checkRange(folder, [...parameters.values()]);
    if (quantization) await quantizationDone(folder);
    return new CausalLM(decoder, head, parameters, linears);
  } catch (error) {
    for (const { tensor } of parameters.values()) tensor.dispose();
    for (const weight of quantized) weight.dispose();
    throw error;
  } finally {
    files.close();
  }
}

async function quantizationDone(folder: string): Promise<void> {
  try {
    await flush();
  } catch (error) {
    throw new UserError(`quantization: ${folder}: ${(error as Error).message}`, { cause: error });
  }
}

/** float16 ends at 65,504; a weight beyond it became infinite. */
async function checkRange(folder: string, parameters: readonly Parameter[]): Promise<void> {
  const largest = scope(() =>
    ops.stack(ops.foreachLargest(parameters.map(({ tensor }) => tensor)).map((x) => ops.to(x, "float32"))),
  );
  const values = await largest.values();
  largest.dispose();
  const bad = parameters.find((_, i) => !Number.isFinite(Number(values[i])));
  if (bad === undefined) return;
  throw new UserError(
    `model: ${folder}: weight '${bad.name}' has numbers that float16 cannot hold, whose largest is 65504. Use bf16 instead of fp16.`,
  );
}

function buildModel(
  config: ModelConfig,
  precision: Precision,
  { device, trained }: { device: Device; trained: boolean },
  weights: WeightSource,
): { decoder: Decoder; head: Head; linears: Map<string, Linear> } {
  const { hiddenSize: hidden, intermediateSize: inner, vocabSize, headDim } = config;
  const linears = new Map<string, Linear>();
  const linear = (path: string, out: number, input: number, hasBias: boolean): Linear => {
    const weight = weights.linear(`${path}.weight`, [out, input]);
    const bias = hasBias ? weights.dense(`${path}.bias`, [out]) : undefined;
    const layer = new Linear(path, [out, input], weight, bias, precision);
    linears.set(path, layer);
    return layer;
  };
  const embedding = weights.dense("model.embed_tokens.weight", [vocabSize, hidden]);
  const layers: DecoderLayer[] = [];
  for (let i = 0; i < config.layers; i++) {
    const path = `model.layers.${i}`;
    const attention = `${path}.self_attn`;
    const { attentionBias, mlpBias } = config;
    layers.push({
      q: linear(`${attention}.q_proj`, config.heads * headDim, hidden, attentionBias),
      k: linear(`${attention}.k_proj`, config.kvHeads * headDim, hidden, attentionBias),
      v: linear(`${attention}.v_proj`, config.kvHeads * headDim, hidden, attentionBias),
      o: linear(`${attention}.o_proj`, hidden, config.heads * headDim, attentionBias),
      gate: linear(`${path}.mlp.gate_proj`, inner, hidden, mlpBias),
      up: linear(`${path}.mlp.up_proj`, inner, hidden, mlpBias),
      down: linear(`${path}.mlp.down_proj`, hidden, inner, mlpBias),
      inputNorm: weights.dense(`${path}.input_layernorm.weight`, [hidden]),
      postNorm: weights.dense(`${path}.post_attention_layernorm.weight`, [hidden]),
    });
  }
  const finalNorm = weights.dense("model.norm.weight", [hidden]);
  const headWeight = config.tied ? embedding : weights.dense("lm_head.weight", [vocabSize, hidden]);
  const lmHead = new Linear("lm_head", [vocabSize, hidden], headWeight, undefined, precision);
  linears.set("lm_head", lmHead);
  const decoder = new Decoder(config, precision, device, { embedding, layers, trained });
  return { decoder, head: new Head(lmHead, finalNorm, config.rmsNormEps, device), linears };
}
