/** The tensors of an adapter by PEFT's keys: what is trained, and what is written. */
import type { TensorEntry } from "../files/safetensorsWriter.js";
import type { CausalLM } from "../models/causalLM.js";
import type { LoraWeights } from "../models/linear.js";
import type { TrainedParameter } from "../optim/optimizer.js";
import type { WeightRole } from "../support/weightRole.js";
import { noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { PREFIX } from "./adapterConfig.js";
import type { AdapterPlan } from "./plan.js";
import { LORA_KEYS, TOKENS_KEY } from "./storedAdapter.js";

/** What is trained, by the names that it has in the file. */
export function trainedParameters(model: CausalLM, plan: AdapterPlan): TrainedParameter[] {
  const factors = groups(plan);
  return [
    ...plan.paths.flatMap((path) => loraParameters(model, path)),
    ...fullParameters(model, plan),
    ...rowParameters(model),
  ].map((parameter) => ({ ...parameter, ...factors(parameter) }));
}

function loraParameters(model: CausalLM, path: string): TrainedParameter[] {
  const { lora, inFeatures, outFeatures } = model.linears.get(path)!;
  const { a, b, rank, bias, magnitude, initial } = lora!;
  const of = (part: keyof typeof LORA_KEYS, role: WeightRole, tensor: Tensor | undefined, shape: number[]) =>
    tensor ? [{ name: `${PREFIX}${path}.${LORA_KEYS[part]}`, role, tensor, shape }] : [];
  const stored = (shape: number[]) => (initial ? { storedShape: shape } : {});
  return [
    ...of("a", "matrix", a, [rank, inFeatures]).map((x) => ({ ...x, ...stored([2 * rank, inFeatures]) })),
    ...of("b", "matrix", b, [outFeatures, rank]).map((x) => ({ ...x, ...stored([outFeatures, 2 * rank]) })),
    ...of("bias", "bias", bias, [outFeatures]),
    ...of("magnitude", "matrix", magnitude, [outFeatures]), // it decays, as in the Trainer
  ];
}

function fullParameters(model: CausalLM, { full, paths }: AdapterPlan): TrainedParameter[] {
  const adapted = new Set(paths.map((path) => `${path}.bias`));
  return [...model.parameters.values()]
    .filter(({ name }) => full.has(name))
    .map(({ name, role, tensor, shape }) => ({
      name: PREFIX + (adapted.has(name) ? name.replace(/bias$/, "base_layer.bias") : name),
      role,
      tensor,
      shape,
    }));
}

function rowParameters({ decoder, head, description }: CausalLM): TrainedParameter[] {
  const places = [
    [description.embedding.path, decoder.rows],
    [head.linear.name, head.rows === decoder.rows ? undefined : head.rows],
  ] as const;
  return places.flatMap(([path, rows]) => {
    if (!rows) return [];
    const shape = [rows.tokens.length, description.hiddenSize];
    return [{ name: `${PREFIX}${path}.${TOKENS_KEY}`, role: "matrix" as const, tensor: rows.values, shape }];
  });
}

/**
 * LoRA+ as PEFT's create_loraplus_optimizer: B and all vectors learn faster, and all but biases and the weights of
 * LayerNorms decay (RMS norms do, other than in the Trainer).
 */
function groups({ config, layerNorms }: AdapterPlan): (parameter: TrainedParameter) => Partial<TrainedParameter> {
  const { loraplus_lr_ratio: ratio } = config;
  if (ratio == null) return () => ({});
  return ({ name, role, shape }) => ({
    lrFactor: name.endsWith(LORA_KEYS.b) || shape.length === 1 ? ratio : 1,
    decays: role !== "bias" && !layerNorms.has(name),
  });
}

/** The adapter for the safetensors writer. */
export function adapterEntries(model: CausalLM, plan: AdapterPlan): TensorEntry[] {
  const lora = new Map(plan.paths.map((path) => [`${PREFIX}${path}.`, model.linears.get(path)!.lora!]));
  const { embedding, head } = model.description;
  return trainedParameters(model, plan).flatMap(({ name, tensor, shape, storedShape }): TensorEntry[] => {
    const entry = { name, dtype: "F32" as const, shape: storedShape ?? shape, data: () => tensor.bytes() };
    if (storedShape) {
      const part = name.endsWith(LORA_KEYS.a) ? "a" : "b";
      const weights = lora.get(name.slice(0, -LORA_KEYS[part].length))!;
      return [{ ...entry, data: () => joined(weights, part) }];
    }
    // PEFT writes a matrix that is kept tied in both of its places.
    const twice = plan.keptTied && name === `${PREFIX}${embedding.path}.weight`;
    return twice ? [entry, { ...entry, name: `${PREFIX}${head.linear.path}.weight` }] : [entry];
  });
}

/** A and what the base is lessened by as one adapter of twice the rank: [A; A₀] and [B, -B₀]. */
async function joined({ a, b, initial }: LoraWeights, part: "a" | "b"): Promise<Uint8Array> {
  const whole = noGrad(() =>
    scope(() => (part === "a" ? ops.cat([a, initial!.a]) : ops.cat([b, ops.neg(initial!.b)], 1))),
  );
  return whole.bytes().finally(() => whole.dispose());
}
