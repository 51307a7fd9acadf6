/** Adapters on a model: new ones with PEFT's first weights, or ones read from a PEFT folder. */
import type { CausalLM } from "../models/causalLM.js";
import { type Linear, type LoraTensors, type LoraWeights, squaredLengths, tensorsOf } from "../models/linear.js";
import type { LoadOptions } from "../models/load.js";
import { QuantizedWeight } from "../models/quantizedWeight.js";
import { TrainedRows } from "../models/trainedRows.js";
import { type DType, fused, keep, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { PREFIX } from "./adapterConfig.js";
import { lessensBase } from "./config.js";
import { checkRank, type FirstWeights, firstWeights } from "./initialWeights.js";
import type { AdapterPlan } from "./plan.js";
import { loraShapes } from "./shapes.js";
import { LORA_KEYS, type StoredAdapter, TOKENS_KEY } from "./storedAdapter.js";

/** What the loader needs to know of an adapter that is to be put on the model. */
export const loadOptionsFor = ({ full, untied }: AdapterPlan): Pick<LoadOptions, "trained" | "untied"> => ({
  trained: ({ name }) => full.has(name),
  untied,
});

/** Puts a new adapter on a model that was loaded for it. */
export function addAdapter(model: CausalLM, plan: AdapterPlan, where = "lora."): void {
  const { config, paths } = plan;
  const { device } = model.decoder;
  const shapeOf = loraShapes(config, where);
  for (const path of paths) {
    const layer = model.linears.get(path)!;
    const shape = shapeOf(path);
    checkRank(config, path, shape, sizeOf(layer), where);
    const parts = () =>
      moved(
        firstWeights(config, shape, sizeOf(layer), () => onCpu(layer)),
        device,
        "float32",
      );
    attach(
      layer,
      { ...kept(parts), rank: shape.r, scaling: shape.scaling, dropout: config.lora_dropout },
      config.use_dora,
    );
  }
  addRows(model, plan, (matrix, tokens) => {
    const index = ops.int64(tokens, undefined, device);
    return ops.to(ops.indexSelect(matrix, 0, index), "float32");
  });
}

/**
 * Puts the adapter of a folder on a model that was loaded for it.
 * @param dtype what its weights are rounded to; float32 where it is to be trained
 */
export function loadAdapter(model: CausalLM, plan: AdapterPlan, stored: StoredAdapter, dtype: DType = "float32"): void {
  const { config, paths } = plan;
  const { device } = model.decoder;
  stored.refuseOthers(plan, model.description);
  const shapeOf = loraShapes(config, stored.where);
  // A copy of its own: the adapter may be trained on, and its file replaced.
  const read = (place: Parameters<StoredAdapter["read"]>[0], key: string, shape: readonly number[]) =>
    ops.clone(ops.toDevice(stored.read(place, `${PREFIX}${key}`, shape), device, dtype));
  for (const path of paths) {
    const layer = model.linears.get(path)!;
    const [outputs, inputs] = sizeOf(layer);
    const own = `${path}.weight`;
    const { weight } = layer;
    if (stored.isBase(own, paths) && !(weight instanceof QuantizedWeight)) {
      noGrad(() => scope(() => ops.copy_(weight, stored.read(stored.full.get(own), own, [outputs, inputs]))));
    }
    const shape = shapeOf(path);
    const places = stored.layers.get(path) ?? {};
    const part = (name: keyof typeof LORA_KEYS, size: number[]) =>
      read(places[name], `${path}.${LORA_KEYS[name]}`, size);
    const parts = kept(() => ({
      a: part("a", [shape.r, inputs]),
      b: part("b", [outputs, shape.r]),
      bias: config.lora_bias ? part("bias", [outputs]) : undefined,
      magnitude: config.use_dora ? part("magnitude", [outputs]) : undefined,
      // What the base was lessened by is made again, as PEFT does.
      initial: lessensBase(config)
        ? moved(
            firstWeights(config, shape, [outputs, inputs], () => onCpu(layer)),
            device,
            dtype,
          ).initial
        : undefined,
    }));
    attach(layer, { ...parts, rank: shape.r, scaling: shape.scaling, dropout: config.lora_dropout }, config.use_dora);
  }
  for (const name of plan.full) {
    const { tensor, shape } = model.parameters.get(name)!;
    noGrad(() => scope(() => ops.copy_(tensor, read(stored.full.get(name), name, shape))));
  }
  const { hiddenSize } = model.description;
  addRows(model, plan, (_, tokens, path) =>
    read(stored.rows.get(path), `${path}.${TOKENS_KEY}`, [tokens.length, hiddenSize]),
  );
}

const sizeOf = ({ outFeatures, inFeatures }: Linear): [number, number] => [outFeatures, inFeatures];

/** Tensors that live until the model's end. */
function kept(make: () => LoraTensors): LoraTensors {
  const parts = noGrad(() => scope(make));
  for (const tensor of tensorsOf(parts)) keep(tensor);
  return parts;
}

function moved(
  { a, b, bias, initial }: FirstWeights,
  device: Parameters<typeof ops.toDevice>[1],
  dtype: DType,
): FirstWeights {
  const to = (x: Tensor) => ops.toDevice(x, device, dtype);
  return { a: to(a), b: to(b), bias: bias && to(bias), initial: initial && { a: to(initial.a), b: to(initial.b) } };
}

/** The base's weight in float32 on the CPU, [out, in]. */
const onCpu = ({ matrix }: Linear): Tensor => ops.toDevice(matrix, "cpu", "float32");

/** Gives the layer its adapter; with DoRA the lengths of its rows begin as they are. */
function attach(layer: Linear, lora: LoraWeights, dora: boolean): void {
  layer.lora = lora;
  if (!dora) return;
  noGrad(() => {
    lora.squares = keep(scope(() => ops.sumDim(ops.square(floatWeight(layer)), 1)));
    lora.magnitude ??= keep(scope(() => ops.sqrt(squaredLengths(layer, lora))));
  });
}

/** [out, in] */
function floatWeight({ weight, matrix }: Linear): Tensor {
  if (weight instanceof QuantizedWeight) return fused.dequantize(weight.codes, weight.scales, "float32");
  return ops.to(matrix, "float32");
}

function addRows(
  model: CausalLM,
  { rows }: AdapterPlan,
  make: (matrix: Tensor, tokens: readonly number[], path: string) => Tensor,
): void {
  const { decoder, head, description, parameters } = model;
  const made = (tokens: readonly number[], matrix: Tensor, path: string) =>
    new TrainedRows(tokens, keep(noGrad(() => scope(() => make(matrix, tokens, path)))), decoder.device);
  const { path } = description.embedding;
  if (rows.embedding) decoder.rows = made(rows.embedding, parameters.get(`${path}.weight`)!.tensor, path);
  if (rows.shared) head.rows = decoder.rows;
  if (rows.head) head.rows = made(rows.head, head.linear.weight, head.linear.name);
}
