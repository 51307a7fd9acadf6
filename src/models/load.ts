/** A Hugging Face model folder as a model in memory: weights are mapped from their files, and converted where needed. */

import { resolveWeights, type WeightIndex } from "../files/weights.js";
import { UserError } from "../support/errors.js";
import type { WeightRole } from "../support/weightRole.js";
import { type Device, flush, type fused, keep, ops, scope, type Tensor } from "../torch/index.js";
import { CausalLM, type Parameter } from "./causalLM.js";
import { readModelConfig } from "./config.js";
import { Decoder, type DecoderLayer } from "./decoder.js";
import {
  type LayerDescription,
  type LinearDescription,
  linearsOf,
  type ModelDescription,
  type NormDescription,
  normsOf,
} from "./description.js";
import { Head } from "./head.js";
import { Linear } from "./linear.js";
import { ModelWeights, tiedAsStored } from "./modelWeights.js";
import { float32Precision, type Precision } from "./precision.js";
import type { Quantization } from "./quantization.js";
import { QuantizedWeight } from "./quantizedWeight.js";

export interface LoadOptions {
  precision?: Precision;
  /** Default: the CPU. */
  device?: Device;
  /** Which weights are to be trained: each is a float32 copy of its own. The others are frozen; by default all are. */
  trained?: (weight: Pick<Parameter, "name" | "role">) => boolean;
  /** A tied head gets weights of its own, which begin as the embedding's. */
  untied?: boolean;
  /** How the linear layers but the head store their weights; they are frozen then. */
  quantization?: Quantization;
}

/** Where a model's weights come from. */
interface WeightSource {
  /** @param from the name of the weight that it begins as; default: its own */
  dense(name: string, shape: number[], role: WeightRole, from?: string): Tensor;
  /** Of a linear layer other than the head. */
  linear(description: LinearDescription): Tensor | QuantizedWeight;
}

/** What a folder's model is made of, by its config.json and by what its files hold. */
export async function describeModel(folder: string): Promise<{ description: ModelDescription; index: WeightIndex }> {
  const index = await resolveWeights(folder);
  return { description: await tiedAsStored(await readModelConfig(folder), index), index };
}

/**
 * Loads a model folder (config.json and safetensors).
 * @throws UserError naming the file and what is wrong in it
 */
export async function loadCausalLM(folder: string, options: LoadOptions = {}): Promise<CausalLM> {
  const { precision = float32Precision, device = "cpu", trained = () => false, quantization } = options;
  const { untied = false } = options;
  const { description, index } = await describeModel(folder);
  const files = new ModelWeights(index, description);
  const parameters = new Map<string, Parameter>();
  const quantized: QuantizedWeight[] = [];
  try {
    const dense = (name: string, shape: number[], role: WeightRole, from = name): Tensor => {
      const trains = trained({ name, role });
      const { tensor, stored } = scope(() => {
        const { tensor: view, dtype, name: stored } = files.tensor(from, shape);
        const target = trains ? "float32" : precision.frozen === "as stored" ? dtype : precision.frozen;
        if (dtype !== target || device !== "cpu") return { tensor: ops.toDevice(view, device, target), stored };
        return { tensor: trains ? ops.clone(view) : view, stored };
      });
      parameters.set(name, { name, stored: from === name ? stored : name, role, tensor: keep(tensor), shape });
      return tensor;
    };
    // One weight after the other: the pages of the file that it was read from are given back before the next is read.
    const linear = (layer: LinearDescription): Tensor | QuantizedWeight => {
      const name = `${layer.path}.weight`;
      const shape = layer.transposed ? [layer.in, layer.out] : [layer.out, layer.in];
      if (!quantization) return dense(name, shape, "matrix");
      const weight = scope(() => {
        const { tensor } = files.tensor(name, shape);
        const matrix = layer.transposed ? ops.clone(ops.transpose(tensor, 0, 1)) : tensor;
        return new QuantizedWeight(matrix, quantization, device);
      });
      quantized.push(weight);
      return weight;
    };
    const { decoder, head, linears } = buildModel(
      description,
      precision,
      device,
      { trained, untied },
      { dense, linear },
    );
    files.refuseOthers();
    if (precision.frozen === "float16") {
      await checkRange(
        folder,
        [...parameters.values()].filter((parameter) => !trained(parameter)),
      );
    }
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
  if (parameters.length === 0) return;
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
  description: ModelDescription,
  precision: Precision,
  device: Device,
  { trained, untied }: Required<Pick<LoadOptions, "trained" | "untied">>,
  weights: WeightSource,
): { decoder: Decoder; head: Head; linears: Map<string, Linear> } {
  const linears = new Map<string, Linear>();
  const linear = (layer: LinearDescription): Linear => {
    const weight = weights.linear(layer);
    const built = new Linear(layer, weight, biasOf(layer, weights), precision);
    linears.set(layer.path, built);
    return built;
  };
  const norms = new Map<string, fused.Norm>(); // a parallel layer's two halves share one
  const norm = (how: NormDescription | undefined): fused.Norm | undefined => {
    if (!how) return undefined;
    const known = norms.get(how.path);
    if (known) return known;
    const { path, size, kind, eps, offset } = how;
    const weight = weights.dense(`${path}.weight`, [size], "norm");
    const bias = how.bias ? weights.dense(`${path}.bias`, [size], "bias") : undefined;
    norms.set(path, { kind, weight, bias, eps, offset });
    return norms.get(path);
  };
  const { embedding: embedded, hiddenSize: hidden, vocabSize, head } = description;
  const embedding = weights.dense(`${embedded.path}.weight`, [vocabSize, hidden], "embedding");
  const learned = embedded.positions;
  const positions = learned && weights.dense(`${learned.path}.weight`, [learned.count, hidden], "position");
  const layers = description.layers.map((layer): DecoderLayer => {
    const { attention, mlp } = layer;
    const built = new Map(linearsOf(layer).map((each) => [each, linear(each)]));
    const of = (each: LinearDescription) => built.get(each)!;
    return {
      description: layer,
      attention: {
        qkv: attention.qkv.map(of),
        o: of(attention.o),
        qNorm: norm(attention.qkNorm?.q),
        kNorm: norm(attention.qkNorm?.k),
        norm: norm(attention.norm),
        postNorm: norm(attention.postNorm),
      },
      mlp: { inputs: mlp.inputs.map(of), down: of(mlp.down), norm: norm(mlp.norm), postNorm: norm(mlp.postNorm) },
      trained: trainsOwn(layer, trained),
    };
  });
  const finalNorm = norm(description.finalNorm)!;
  const { path, bias } = head.linear;
  const own = () =>
    weights.dense(`${path}.weight`, [vocabSize, hidden], "matrix", head.tied ? `${embedded.path}.weight` : undefined);
  const headWeight = head.tied && !untied ? embedding : own();
  const lmHead = new Linear(head.linear, headWeight, bias ? biasOf(head.linear, weights) : undefined, precision);
  linears.set(path, lmHead);
  const embeddingTrained =
    trained({ name: `${embedded.path}.weight`, role: "embedding" }) ||
    (learned !== undefined && trained({ name: `${learned.path}.weight`, role: "position" }));
  const decoder = new Decoder(description, precision, device, { embedding, positions, layers, embeddingTrained });
  return { decoder, head: new Head(lmHead, finalNorm, head, device), linears };
}

function biasOf({ path, out, bias }: LinearDescription, weights: WeightSource): Tensor | undefined {
  return bias ? weights.dense(`${path}.bias`, [out], "bias") : undefined;
}

/** Whether a layer has weights of its own that are trained. */
function trainsOwn(layer: LayerDescription, trained: NonNullable<LoadOptions["trained"]>): boolean {
  const any = (path: string, role: WeightRole, bias: boolean) =>
    trained({ name: `${path}.weight`, role }) || (bias && trained({ name: `${path}.bias`, role: "bias" }));
  return (
    linearsOf(layer).some(({ path, bias }) => any(path, "matrix", bias)) ||
    normsOf(layer).some(({ path, bias }) => any(path, "norm", bias))
  );
}
