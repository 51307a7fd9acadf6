/** PEFT's adapter folder: adapter_config.json and adapter_model.safetensors. */
import { join } from "node:path";
import { ADAPTER_CONFIG } from "../files/modelFolder.js";
import type { TensorEntry } from "../files/safetensorsWriter.js";
import { resolveWeights, type TensorLocation } from "../files/weights.js";
import type { CausalLM } from "../models/causalLM.js";
import { dtypeOf, StoredTensors } from "../models/storedTensors.js";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { zodProblem } from "../support/zodProblem.js";
import { type DType, keep, ops, scope, type Tensor } from "../torch/index.js";
import { type LoraConfig, loraSchema } from "./config.js";
import { loraShapes } from "./lora.js";
import { targetPaths } from "./targets.js";

const PREFIX = "base_model.model.";
const PEFT_VERSION = "0.21.0"; // the release whose file format this is

/** Keys of adapter_config.json that this version does not build on, with the values that mean "not used". */
const unused: Record<string, unknown> = {
  alora_invocation_tokens: null,
  arrow_config: null,
  auto_mapping: null,
  bias: "none",
  corda_config: null,
  ensure_weight_tying: false,
  eva_config: null,
  fan_in_fan_out: false,
  kasa_config: null,
  layer_replication: null,
  layers_pattern: null,
  loftq_config: {},
  lora_bias: false,
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: null,
  monteclora_config: null,
  qalora_group_size: 16,
  revision: null,
  target_parameters: null,
  trainable_token_indices: null,
  use_bdlora: null,
  use_dora: false,
  use_qalora: false,
  velora_config: null,
};

/** Unused keys that change the adapter's result when they are set. */
const decisive = [
  "alora_invocation_tokens",
  "arrow_config",
  "bias",
  "fan_in_fan_out",
  "layer_replication",
  "lora_bias",
  "modules_to_save",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "use_dora",
  "use_qalora",
];

/** adapter_config.json's text, keys sorted as PEFT writes them. */
export function adapterConfigJson(config: LoraConfig, baseModel: string, paths: readonly string[]): string {
  const targets =
    typeof config.target_modules === "string" && config.target_modules !== "all-linear"
      ? config.target_modules
      : [...new Set(config.layers_to_transform != null ? lastNames(paths) : minimalNames(config, paths))].sort();
  const all: Record<string, unknown> = {
    ...unused,
    alpha_pattern: config.alpha_pattern,
    base_model_name_or_path: baseModel,
    exclude_modules: config.exclude_modules ?? null,
    inference_mode: true,
    init_lora_weights: config.init_lora_weights,
    layers_to_transform: config.layers_to_transform ?? null,
    lora_alpha: config.lora_alpha,
    lora_dropout: config.lora_dropout,
    peft_type: "LORA",
    peft_version: PEFT_VERSION,
    r: config.r,
    rank_pattern: config.rank_pattern,
    target_modules: targets,
    task_type: "CAUSAL_LM",
    use_rslora: config.use_rslora,
  };
  const sorted = Object.fromEntries(
    Object.keys(all)
      .sort()
      .map((key) => [key, all[key]]),
  );
  return `${JSON.stringify(sorted, null, 2)}\n`;
}

const lastNames = (paths: readonly string[]) => paths.map((path) => path.slice(path.lastIndexOf(".") + 1));

function minimalNames(config: LoraConfig, paths: readonly string[]): string[] {
  return Array.isArray(config.target_modules) ? config.target_modules : lastNames(paths);
}

/** The adapter's weights for the safetensors writer, by PEFT's keys. */
export function adapterEntries(model: CausalLM): TensorEntry[] {
  const entries: TensorEntry[] = [];
  for (const [path, { lora, inFeatures, outFeatures }] of model.linears) {
    if (!lora) continue;
    const r = lora.rank;
    const entry = (name: string, shape: number[], tensor: Tensor): TensorEntry => ({
      name: `${PREFIX}${path}.${name}.weight`,
      dtype: "F32",
      shape,
      data: () => tensor.bytes(),
    });
    entries.push(entry("lora_A", [r, inFeatures], lora.a), entry("lora_B", [outFeatures, r], lora.b));
  }
  return entries;
}

/**
 * Reads adapter_config.json.
 * @throws UserError for another kind of adapter, or an option that would change its result here
 */
export async function readAdapterConfig(folder: string): Promise<LoraConfig> {
  const path = join(folder, ADAPTER_CONFIG);
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse((await readRegularFile(path, FILE_LIMITS.config)).toString()) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(
      `adapter: cannot read ${path} (${(error as Error).message}). An adapter folder holds adapter_config.json and adapter_model.safetensors.`,
    );
  }
  if (raw?.peft_type !== "LORA")
    throw new UserError(`adapter: ${path}: peft_type ${JSON.stringify(raw?.peft_type)}; only LORA is supported`);
  for (const key of decisive) {
    if (raw[key] !== undefined && raw[key] !== null && raw[key] !== unused[key]) {
      throw new UserError(`adapter: ${path}: ${key} = ${JSON.stringify(raw[key])} is not supported`);
    }
  }
  const known = Object.fromEntries(
    Object.keys(loraSchema.shape)
      .filter((key) => !(key in unused) && raw[key] !== undefined)
      .map((key) => [key, raw[key]]),
  );
  // Only the weights' shapes and scaling matter for a trained adapter, not how it was drawn.
  if (known.init_lora_weights !== "gaussian") known.init_lora_weights = true;
  const parsed = loraSchema.safeParse(known);
  if (!parsed.success) {
    throw new UserError(`adapter: ${path}: ${zodProblem(parsed.error)}`);
  }
  return parsed.data;
}

/**
 * Puts the adapter of a PEFT folder on the model; returns its config.
 * @param dtype what its weights are stored in; float32 where it is to be trained
 */
export async function loadAdapter(model: CausalLM, folder: string, dtype: DType = "float32"): Promise<LoraConfig> {
  const config = await readAdapterConfig(folder);
  const stored = new StoredTensors((await resolveWeights(folder, "adapter_model")).headers);
  const used = new Set<string>();
  const read = (name: string, shape: number[]): Tensor => {
    const found = stored.find(name);
    if (!found)
      throw new UserError(`adapter: ${folder} has no weight '${name}', which its adapter_config.json asks for`);
    checkShape(found, name, shape);
    used.add(name);
    // A copy of its own: the adapter may be trained on, and its file replaced.
    return keep(
      scope(() => {
        const tensor = stored.read(found);
        const { device } = model.decoder;
        if (dtypeOf(found.info) === dtype && device === "cpu") return ops.clone(tensor);
        return ops.toDevice(tensor, device, dtype);
      }),
    );
  };
  try {
    const where = `adapter: ${join(folder, ADAPTER_CONFIG)}: `;
    const shapeOf = loraShapes(config, where);
    for (const path of targetPaths(config, [...model.linears.keys()], where)) {
      const layer = model.linears.get(path)!;
      const { r, scaling } = shapeOf(path);
      const a = read(`${PREFIX}${path}.lora_A.weight`, [r, layer.inFeatures]);
      layer.lora = { a, b: a, rank: r, scaling, dropout: config.lora_dropout };
      layer.lora.b = read(`${PREFIX}${path}.lora_B.weight`, [layer.outFeatures, r]);
    }
  } finally {
    stored.close();
  }
  const extra = [...stored.names()].find((name) => !used.has(name));
  if (extra !== undefined) {
    throw new UserError(`adapter: ${folder} has the weight '${extra}', which fits no targeted layer of this model`);
  }
  return config;
}

function checkShape({ file, info }: TensorLocation, name: string, shape: number[]): void {
  if (info.shape.length !== 2 || info.shape.some((size, i) => size !== shape[i])) {
    throw new UserError(
      `adapter: ${file}: '${name}' has the shape [${info.shape}], this model and adapter_config.json ask for [${shape}]`,
    );
  }
}
