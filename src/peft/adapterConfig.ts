/** adapter_config.json, as PEFT writes and reads it. */
import { join } from "node:path";
import { ADAPTER_CONFIG } from "../files/modelFolder.js";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { zodProblem } from "../support/zodProblem.js";
import { type LoraConfig, lessensBase, loraSchema, refused, refusedInits } from "./config.js";
import type { AdapterPlan } from "./plan.js";

/** Before each key of the weights: where PEFT has the model within itself. */
export const PREFIX = "base_model.model.";

const PEFT_VERSION = "0.21.0"; // the release whose file format this is

/** Options that are not PEFT's LoraConfig's, or not kept in a file. */
const NOT_IN_FILES = new Set(["loraplus_lr_ratio", "loraplus_lr_embedding", "runtime_config"]);
/** Keys that say where the file comes from. */
const FILE_KEYS = [
  "auto_mapping",
  "base_model_name_or_path",
  "inference_mode",
  "peft_type",
  "peft_version",
  "revision",
] as const;
/** Keys that only say how the first weights were drawn. */
const INIT_KEYS = ["corda_config", "eva_config", "loftq_config", "lora_ga_config"] as const;

/**
 * The config of the adapter that is saved. Weights that were taken out of the base come back as a part of the adapter, of
 * twice the rank and the same scaling: it fits the base as everybody has it.
 */
export function savedConfig(config: LoraConfig): LoraConfig {
  if (!lessensBase(config)) return config;
  const alpha = config.use_rslora ? Math.SQRT2 : 2; // the scaling is alpha / √r with rslora, alpha / r without
  const times = (patterns: Record<string, number>, factor: number) =>
    Object.fromEntries(Object.entries(patterns).map(([key, value]) => [key, value * factor]));
  return {
    ...config,
    r: 2 * config.r,
    lora_alpha: alpha * config.lora_alpha,
    rank_pattern: times(config.rank_pattern, 2),
    alpha_pattern: times(config.alpha_pattern, alpha),
    init_lora_weights: true,
  };
}

/** adapter_config.json's text, keys sorted as PEFT writes them. */
export function adapterConfigJson(plan: Pick<AdapterPlan, "config" | "targets">, baseModel: string): string {
  const config = savedConfig(plan.config);
  const options = Object.keys(loraSchema.shape).filter((name) => !NOT_IN_FILES.has(name));
  const values: Record<string, unknown> = {
    ...Object.fromEntries(Object.entries(refused).map(([name, [value]]) => [name, value])),
    ...Object.fromEntries(Object.entries(config).filter(([name]) => !Object.hasOwn(refused, name))),
    base_model_name_or_path: baseModel,
    fan_in_fan_out: config.fan_in_fan_out ?? false,
    inference_mode: true,
    peft_version: PEFT_VERSION,
    target_modules: plan.targets,
    task_type: "CAUSAL_LM",
  };
  const sorted = Object.fromEntries(options.sort().map((key) => [key, values[key] ?? null]));
  return `${JSON.stringify(sorted, null, 2)}\n`;
}

/** Why an adapter whose first weights were drawn so does not fit the base that it names. */
function strangeBase(init: unknown): string | undefined {
  if (typeof init !== "string") return undefined;
  const convert = "Save it in Python with path_initial_model_for_weight_conversion, which makes it plain LoRA.";
  if (init.startsWith("pissa_niter_")) {
    return `was made on a base that cannot be made again exactly, for random numbers took part. ${convert}`;
  }
  if (["corda", "lora_ga"].includes(init))
    return `was made on a base that cannot be made again without its data. ${convert}`;
  if (["loftq", "mica"].includes(init)) return `is not supported: ${refusedInits[init]}`;
  return undefined;
}

/**
 * Reads adapter_config.json.
 * @throws UserError for another kind of adapter, or an option that would change its result here
 */
export async function readAdapterConfig(
  folder: string,
): Promise<{ config: LoraConfig; baseModel: string | undefined }> {
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
  const { init_lora_weights: init, base_model_name_or_path: base } = raw;
  const strange = strangeBase(init);
  if (strange) throw new UserError(`adapter: ${path}: init_lora_weights = ${JSON.stringify(init)}: it ${strange}`);
  const beside = new Set<string>([...FILE_KEYS, ...INIT_KEYS, ...NOT_IN_FILES]);
  const known = Object.fromEntries(
    Object.keys(loraSchema.shape)
      .filter((key) => !beside.has(key) && raw[key] !== undefined && raw[key] !== null)
      .map((key) => [key, raw[key]]),
  );
  if (init === "eva") known.init_lora_weights = true; // how a trained adapter was drawn does not matter
  const parsed = loraSchema.safeParse(known);
  if (!parsed.success) {
    throw new UserError(`adapter: ${path}: ${zodProblem(parsed.error)}`);
  }
  return { config: parsed.data, baseModel: typeof base === "string" && base !== "" ? base : undefined };
}
