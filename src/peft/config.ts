/** LoraConfig: PEFT's names, defaults and meaning. */
import { z } from "zod";

const names = z.array(z.string().min(1)).min(1);
const modules = z.union([z.string().min(1), names]);

/** Options of PEFT that change the result and are not built; their defaults are accepted. */
const refused = {
  bias: ["none", "training the original biases is not built"],
  use_dora: [false, "DoRA is not built"],
  lora_bias: [false, "a bias in lora_B is not built"],
  fan_in_fan_out: [false, "only nn.Linear's weight layout is supported"],
  modules_to_save: [null, "full copies of modules are not built; train all weights by leaving `lora` out"],
  target_parameters: [null, "adapters on bare parameters are not built"],
  layer_replication: [null, "layer replication is not built"],
  trainable_token_indices: [null, "trainable token rows are not built"],
} as const;

function refuse<const T>([accepted, reason]: readonly [T, string]) {
  const schema = z
    .unknown()
    .refine((value) => value === undefined || value === null || value === accepted, { message: `${reason}` })
    .optional()
    .describe(`Only ${JSON.stringify(accepted)}: ${reason}.`);
  return schema as z.ZodOptional<z.ZodType<T | null | undefined, T | null | undefined>>;
}

/** Far beyond any use, and far from where float32 ends. */
const MAX_ALPHA = 1e6;
const alpha = z
  .number()
  .positive()
  .max(MAX_ALPHA, { error: `must be at most ${MAX_ALPHA}: the update is multiplied by it` });

/** More patterns than a model has layers; each is tried on each layer. */
const MAX_PATTERNS = 10_000;
const patterns = (value: z.ZodNumber) =>
  z
    .record(z.string(), value)
    .refine((entries) => Object.keys(entries).length <= MAX_PATTERNS, {
      error: `has more than ${MAX_PATTERNS} entries`,
    })
    .default({});

/** The key `lora` of a config. */
export const loraSchema = z
  .strictObject({
    r: z.number().int().positive().default(8).describe("Rank of the update: the size of its bottleneck."),
    lora_alpha: alpha.default(8).describe("The update is scaled by lora_alpha / r (lora_alpha / √r with use_rslora)."),
    lora_dropout: z.number().min(0).lt(1).default(0).describe("Dropout on the adapter's input while training."),
    target_modules: modules
      .nullish()
      .describe(
        'Layers that get an adapter: a list of names or path endings, a regular expression for the whole path, or "all-linear". Default: q_proj and v_proj.',
      ),
    exclude_modules: modules.nullish().describe("Layers left out: a list of names, or a regular expression."),
    layers_to_transform: z
      .union([z.number().int().min(0), z.array(z.number().int().min(0))])
      .nullish()
      .describe("Only these layer numbers."),
    rank_pattern: patterns(z.number().int().positive()).describe(
      "Ranks by layer name or regular expression, where they differ from r.",
    ),
    alpha_pattern: patterns(alpha).describe(
      "Alphas by layer name or regular expression, where they differ from lora_alpha.",
    ),
    use_rslora: z.boolean().default(false).describe("Scale by lora_alpha / √r (rank-stabilised LoRA)."),
    init_lora_weights: z
      .union([z.literal(true), z.literal("gaussian")])
      .default(true)
      .describe("true: A is uniform (Kaiming), B is zero; gaussian: A is normal with deviation 1/r."),
    task_type: z.literal("CAUSAL_LM").nullish().describe("Only CAUSAL_LM."),
    bias: refuse(refused.bias),
    use_dora: refuse(refused.use_dora),
    lora_bias: refuse(refused.lora_bias),
    fan_in_fan_out: refuse(refused.fan_in_fan_out),
    modules_to_save: refuse(refused.modules_to_save),
    target_parameters: refuse(refused.target_parameters),
    layer_replication: refuse(refused.layer_replication),
    trainable_token_indices: refuse(refused.trainable_token_indices),
  })
  .describe("LoRA adapters, by the names of PEFT's LoraConfig; leave it out to train all weights.");

export type LoraConfig = z.infer<typeof loraSchema>;

/** A LoRA adapter, by the names, defaults and meaning of PEFT's LoraConfig. */
export interface LoraConfigInput {
  /** Rank of the update: A is [r, in], B is [out, r]. Default: 8. */
  r?: number;
  /** The update B·A is scaled by lora_alpha / r, or lora_alpha / √r with `use_rslora`. Default: 8. */
  lora_alpha?: number;
  /** Share of the adapter's input that is dropped while training, from 0 to below 1. Default: 0. */
  lora_dropout?: number;
  /**
   * Layers that get an adapter: names or endings of paths, a regular expression for the whole path, or `"all-linear"`.
   * Default: `["q_proj", "v_proj"]`.
   */
  target_modules?: string | string[] | null;
  /** Layers left out: names or endings of paths, or a regular expression. */
  exclude_modules?: string | string[] | null;
  /** Only the layers of these numbers, from 0. */
  layers_to_transform?: number | number[] | null;
  /** Ranks by name or regular expression, where they differ from `r`. */
  rank_pattern?: Record<string, number>;
  /** Alphas by name or regular expression, where they differ from `lora_alpha`. */
  alpha_pattern?: Record<string, number>;
  /** Scale by lora_alpha / √r (rank-stabilised LoRA). Default: false. */
  use_rslora?: boolean;
  /** `true`: A uniform (Kaiming), B zero; `"gaussian"`: A normal with deviation 1/r. Default: true. */
  init_lora_weights?: true | "gaussian";
  /** What is trained here in any case. */
  task_type?: "CAUSAL_LM" | null;
  /** Only its default: training the original biases is not built. */
  bias?: "none" | null;
  /** Only its default: DoRA is not built. */
  use_dora?: false | null;
  /** Only its default: a bias in B is not built. */
  lora_bias?: false | null;
  /** Only its default. */
  fan_in_fan_out?: false | null;
  /** Only its default: full copies of modules are not built. */
  modules_to_save?: null;
  /** Only its default. */
  target_parameters?: null;
  /** Only its default. */
  layer_replication?: null;
  /** Only its default. */
  trainable_token_indices?: null;
}
