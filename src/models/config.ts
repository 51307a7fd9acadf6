/** `config.json` of a Llama-architecture model, in transformers' spelling of version 4 or 5. */
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { zodProblem } from "../support/zodProblem.js";

const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(), // the oldest spelling of rope_type
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  partial_rotary_factor: z.number().optional(),
  original_max_position_embeddings: z.number().int().positive().optional(),
  low_freq_factor: z.number().optional(),
  high_freq_factor: z.number().optional(),
  attention_factor: z.number().nullish(),
  beta_fast: z.number().nullish(),
  beta_slow: z.number().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().optional(),
});

const ids = z.union([z.number().int(), z.array(z.number().int())]).nullish();
const count = z.number().int().positive();

const configSchema = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  max_position_embeddings: count.default(2048),
  rms_norm_eps: z.number().positive().default(1e-6),
  hidden_act: z.string().default("silu"),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  bos_token_id: ids,
  eos_token_id: ids,
  pad_token_id: ids,
  quantization_config: z.looseObject({ quant_method: z.string().optional() }).nullish(),
});

/** The rotary embedding's parameters; `type` is transformers' rope_type. */
export interface RopeConfig {
  type: "default" | "linear" | "dynamic" | "yarn" | "llama3";
  theta: number;
  factor: number;
  originalMaxPositions: number;
  lowFreqFactor: number;
  highFreqFactor: number;
  attentionFactor?: number;
  betaFast: number;
  betaSlow: number;
  mscale?: number;
  mscaleAllDim?: number;
  truncate: boolean;
}

/** What the decoder needs to know of a model. */
export interface ModelConfig {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  maxPositions: number;
  rmsNormEps: number;
  attentionBias: boolean;
  mlpBias: boolean;
  tied: boolean;
  rope: RopeConfig;
  eosTokenIds: number[];
  /** The file as it was read, for writing a trained model's folder. */
  source: Record<string, unknown>;
}

const ropeTypes = ["default", "linear", "dynamic", "yarn", "llama3"] as const;

function parseRope(config: z.infer<typeof configSchema>, path: string): RopeConfig {
  const given = config.rope_parameters ?? config.rope_scaling ?? {};
  const type = (given.rope_type ?? given.type ?? "default") as RopeConfig["type"];
  const fail = (reason: string) => new UserError(`${path}: ${reason}`);
  if (!ropeTypes.includes(type)) throw fail(`rope type '${type}' is not supported (known: ${ropeTypes.join(", ")})`);
  if ((given.partial_rotary_factor ?? 1) !== 1) throw fail("partial_rotary_factor other than 1 is not supported");
  if (type !== "default" && given.factor === undefined) throw fail(`rope type '${type}' needs a factor`);
  if (type === "llama3" && (given.low_freq_factor === undefined || given.high_freq_factor === undefined)) {
    throw fail("rope type 'llama3' needs low_freq_factor and high_freq_factor");
  }
  return {
    type,
    theta: given.rope_theta ?? config.rope_theta ?? 10_000,
    factor: given.factor ?? 1,
    originalMaxPositions: given.original_max_position_embeddings ?? config.max_position_embeddings,
    lowFreqFactor: given.low_freq_factor ?? 1,
    highFreqFactor: given.high_freq_factor ?? 4,
    attentionFactor: given.attention_factor ?? undefined,
    betaFast: given.beta_fast || 32,
    betaSlow: given.beta_slow || 1,
    mscale: given.mscale ?? undefined,
    mscaleAllDim: given.mscale_all_dim ?? undefined,
    truncate: given.truncate ?? true,
  };
}

function toList(value: number | number[] | null | undefined): number[] {
  if (value === null || value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/**
 * Parses the text of a config.json.
 * @throws UserError naming the file and the key for anything that this decoder would compute wrongly
 */
export function parseModelConfig(text: string, path: string): ModelConfig {
  let source: unknown;
  try {
    source = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path} is not valid JSON: ${(error as Error).message}`);
  }
  const parsed = configSchema.safeParse(source);
  if (!parsed.success) {
    throw new UserError(`${path}: ${zodProblem(parsed.error)}`);
  }
  const config = parsed.data;
  const fail = (reason: string) => new UserError(`${path}: ${reason}`);
  const architecture = config.architectures?.[0] ?? "LlamaForCausalLM";
  if (config.model_type !== "llama" || architecture !== "LlamaForCausalLM") {
    throw fail(
      `architecture '${architecture}' (model_type '${config.model_type}') is not supported; LlamaForCausalLM models are (Llama, SmolLM2, TinyLlama, ...)`,
    );
  }
  if (config.quantization_config != null) {
    const method = config.quantization_config.quant_method ?? "an unnamed method";
    throw fail(
      `quantization_config: its weights are quantized by ${method}, which cannot be read. Take the unquantized model; \`quantization\` in the run's config makes 4 or 8 bits of it`,
    );
  }
  if (config.hidden_act !== "silu") throw fail(`hidden_act '${config.hidden_act}' is not supported; silu is`);
  const kvHeads = config.num_key_value_heads ?? config.num_attention_heads;
  if (config.num_attention_heads % kvHeads !== 0) {
    throw fail(`num_attention_heads ${config.num_attention_heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  }
  const headDim = config.head_dim ?? config.hidden_size / config.num_attention_heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) throw fail(`head_dim ${headDim} is not an even number`);
  return {
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    kvHeads,
    headDim,
    maxPositions: config.max_position_embeddings,
    rmsNormEps: config.rms_norm_eps,
    attentionBias: config.attention_bias,
    mlpBias: config.mlp_bias,
    tied: config.tie_word_embeddings,
    rope: parseRope(config, path),
    eosTokenIds: toList(config.eos_token_id),
    source: source as Record<string, unknown>,
  };
}

/** Reads `config.json` of a model folder. */
export async function readModelConfig(folder: string): Promise<ModelConfig> {
  const path = join(folder, "config.json");
  let text: string;
  try {
    text = (await readRegularFile(path, FILE_LIMITS.config)).toString();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(
      `model: cannot read ${path} (${(error as NodeJS.ErrnoException).code}). A model folder in Hugging Face format holds config.json, tokenizer.json and *.safetensors.`,
    );
  }
  return parseModelConfig(text, path);
}
