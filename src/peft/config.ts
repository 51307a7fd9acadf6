/** LoraConfig: PEFT's names, defaults and meaning, and LoRA+'s. Each option has its fate here; docs/lora.md lists them. */
import { z } from "zod";

const names = z.array(z.string().min(1)).min(1);
const modules = z.union([z.string().min(1), names]);
const layer = z.number().int().min(0);
const tokens = z
  .array(z.number().int().min(0))
  .min(1)
  .refine((ids) => new Set(ids).size === ids.length, { error: "has a token twice" });

/** Options of PEFT that are not built: the value that means "not used", and why there is no other. */
export const refused = {
  target_parameters: [null, "no model here keeps layers as bare parameters"],
  layer_replication: [null, "layers cannot be repeated"],
  use_qalora: [false, "it needs weights quantized by GPTQ"],
  qalora_group_size: [16, "it belongs to use_qalora"],
  use_bdlora: [null, "it serves many adapters on several machines"],
  alora_invocation_tokens: [null, "an adapter that starts within a text is not built"],
  arrow_config: [null, "choosing among several adapters is not built"],
  velora_config: [null, "compressed activations are not built; gradient_checkpointing saves more memory"],
  monteclora_config: [null, "sampled adapter weights are not built"],
  kasa_config: [null, "it cuts the base weights for good"],
  loftq_config: [{}, "it belongs to init_lora_weights: loftq"],
  eva_config: [null, "it belongs to init_lora_weights: eva"],
  corda_config: [null, "it belongs to init_lora_weights: corda"],
  lora_ga_config: [null, "it belongs to init_lora_weights: lora_ga"],
  megatron_config: [null, "Megatron is not used"],
  megatron_core: ["megatron.core", "Megatron is not used"],
  runtime_config: [null, "it moves weights between a GPU and memory while they are drawn, which is not needed here"],
  peft_type: ["LORA", "LoRA is what this section is about"],
  auto_mapping: [null, "the model's class follows from its config.json"],
  base_model_name_or_path: [null, "the key `model` says it"],
  revision: [null, "the key `model` says it"],
  peft_version: [null, "slimtune writes the version whose files it writes"],
  inference_mode: [false, "a run trains"],
  loraplus_lr_embedding: [1e-6, "no adapter lies on an embedding, which is what it is for"],
} as const;

/** Ways to draw the first weights that are not built. */
export const refusedInits: Readonly<Record<string, string>> = {
  eva: "it needs a pass over the data before training; pissa comes nearest without one",
  corda: "it needs a pass over the data before training; pissa comes nearest without one",
  lora_ga: "it needs gradients of all weights before training; pissa comes nearest without them",
  loftq: "it replaces the base by weights that it has quantized; use `quantization`, and olora or pissa without it",
  mica: "it freezes half of the adapter",
};

const accepts = (accepted: unknown, value: unknown) =>
  value === undefined || value === null || JSON.stringify(value) === JSON.stringify(accepted);

function refuse([accepted, reason]: readonly [unknown, string]) {
  return z
    .unknown()
    .refine((value) => accepts(accepted, value), { message: `${reason}` })
    .optional()
    .describe(`Only ${JSON.stringify(accepted)}: ${reason}.`);
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

const INITS = ["gaussian", "orthogonal", "pissa", "olora"] as const;
const initProblem = ({ input }: { input?: unknown }) =>
  typeof input === "string" && Object.hasOwn(refusedInits, input)
    ? `${input} is not built: ${refusedInits[input]}`
    : `expected true, false, ${INITS.join(", ")} or pissa_niter_N, got ${JSON.stringify(input)}`;
const init = z.union([z.boolean(), z.enum(INITS), z.string().regex(/^pissa_niter_\d{1,3}$/, { error: initProblem })], {
  error: initProblem,
});

const honoured = {
  r: z.number().int().positive().default(8).describe("Rank of the update: the size of its bottleneck."),
  lora_alpha: alpha.default(8).describe("The update is scaled by lora_alpha / r (lora_alpha / √r with use_rslora)."),
  lora_dropout: z.number().min(0).lt(1).default(0).describe("Dropout on the adapter's input while training."),
  target_modules: modules
    .nullish()
    .describe(
      'Layers that get an adapter: a list of names or path endings, a regular expression for the whole path, or "all-linear". Default: PEFT\'s choice for the kind of model, q_proj and v_proj for most.',
    ),
  exclude_modules: modules.nullish().describe("Layers left out: a list of names, or a regular expression."),
  layers_to_transform: z
    .union([layer, z.array(layer)])
    .nullish()
    .describe("Only these layer numbers; target_modules must be a list."),
  layers_pattern: modules
    .nullish()
    .describe("With layers_to_transform: the name of the list of layers, where a path has more than one number."),
  rank_pattern: patterns(z.number().int().positive()).describe(
    "Ranks by layer name or regular expression, where they differ from r.",
  ),
  alpha_pattern: patterns(alpha).describe(
    "Alphas by layer name or regular expression, where they differ from lora_alpha.",
  ),
  use_rslora: z.boolean().default(false).describe("Scale by lora_alpha / √r (rank-stabilised LoRA)."),
  use_dora: z
    .boolean()
    .default(false)
    .describe("Train the length of each row of a weight apart from its direction, which the update turns (DoRA)."),
  init_lora_weights: init
    .default(true)
    .describe(
      "The first weights. true: A uniform (Kaiming), B zero. gaussian: A normal with deviation 1/r. false: both uniform, so that the model changes at once. orthogonal: both orthogonal, with an even r. pissa, pissa_niter_N (N rounds of an approximation, for large weights), olora: the base's own main directions, which the base is lessened by.",
    ),
  bias: z
    .enum(["none", "all", "lora_only"])
    .default("none")
    .describe("Which of the model's own biases are trained: none, all, or those of the adapted layers."),
  lora_bias: z.boolean().default(false).describe("Give B a bias. It can be merged where the layer has a bias."),
  fan_in_fan_out: z
    .boolean()
    .nullish()
    .describe("Whether weights are stored [in, out], as GPT-2's. It follows from the model, as in PEFT."),
  modules_to_save: names
    .nullish()
    .describe("Modules that are trained in full and saved with the adapter, by the endings of their paths."),
  trainable_token_indices: z
    .union([tokens, z.record(z.string().min(1), tokens)])
    .nullish()
    .describe(
      "Tokens whose rows of the embedding are trained; or rows by module: {embed_tokens: [...], lm_head: [...]}.",
    ),
  ensure_weight_tying: z
    .boolean()
    .default(false)
    .describe("Keep the head tied to the embedding where modules_to_save names one of them."),
  task_type: z.literal("CAUSAL_LM").nullish().describe("Only CAUSAL_LM."),
  loraplus_lr_ratio: z
    .number()
    .positive()
    .nullish()
    .describe(
      "LoRA+: how many times faster B and vectors learn than the rest. Not PEFT's LoraConfig, but its optimizer's.",
    ),
};

/** The key `lora` of a config. */
export const loraSchema = z
  .strictObject({
    ...honoured,
    ...(Object.fromEntries(Object.entries(refused).map(([name, why]) => [name, refuse(why)])) as Record<
      keyof typeof refused,
      ReturnType<typeof refuse>
    >),
  })
  .superRefine((config, { addIssue }) => {
    for (const [key, message] of contradictions(config)) addIssue({ code: "custom", path: [key], message });
  })
  .describe("LoRA adapters, by the names of PEFT's LoraConfig; leave it out to train all weights.");

export type LoraConfig = z.output<typeof loraSchema>;

/** LoRA adapters, by the names, defaults and meaning of PEFT's LoraConfig; what is not built is taken at its default only. */
export interface LoraConfigInput extends Partial<Record<keyof typeof refused, unknown>> {
  /** Rank of the update: A is [r, in], B is [out, r]. Default: 8. */
  r?: number;
  /** The update B·A is scaled by lora_alpha / r, or lora_alpha / √r with `use_rslora`. Default: 8. */
  lora_alpha?: number;
  /** Share of the adapter's input that is dropped while training, from 0 to below 1. Default: 0. */
  lora_dropout?: number;
  /**
   * Layers that get an adapter: names or endings of paths, a regular expression for the whole path, or `"all-linear"`.
   * Default: PEFT's choice for the kind of model, q_proj and v_proj for most.
   */
  target_modules?: string | string[] | null;
  /** Layers left out: names or endings of paths, or a regular expression. */
  exclude_modules?: string | string[] | null;
  /** Only the layers of these numbers, from 0; `target_modules` must be a list. */
  layers_to_transform?: number | number[] | null;
  /** With `layers_to_transform`: the name of the list of layers, where a path has more than one number. */
  layers_pattern?: string | string[] | null;
  /** Ranks by name or regular expression, where they differ from `r`. */
  rank_pattern?: Record<string, number>;
  /** Alphas by name or regular expression, where they differ from `lora_alpha`. */
  alpha_pattern?: Record<string, number>;
  /** Scale by lora_alpha / √r (rank-stabilised LoRA). Default: false. */
  use_rslora?: boolean;
  /** Train the length of each row of a weight apart from its direction (DoRA). Default: false. */
  use_dora?: boolean;
  /**
   * The first weights. `true`: A uniform (Kaiming), B zero; `"gaussian"`: A normal with deviation 1/r; `false`: both
   * uniform; `"orthogonal"`; the base's own main directions by `"pissa"`, `"pissa_niter_N"` or `"olora"`. Default: true.
   */
  init_lora_weights?: boolean | "gaussian" | "orthogonal" | "pissa" | "olora" | (string & {});
  /** Which of the model's own biases are trained. Default: none. */
  bias?: "none" | "all" | "lora_only";
  /** Give B a bias, [out]. Default: false. */
  lora_bias?: boolean;
  /** Whether weights are stored [in, out], as GPT-2's. It follows from the model. */
  fan_in_fan_out?: boolean | null;
  /** Modules that are trained in full and saved with the adapter, by the endings of their paths. */
  modules_to_save?: string[] | null;
  /** Tokens whose rows of the embedding are trained; or rows by module. */
  trainable_token_indices?: number[] | Record<string, number[]> | null;
  /** Keep the head tied to the embedding where `modules_to_save` names one of them. Default: false. */
  ensure_weight_tying?: boolean;
  /** What is trained here in any case. */
  task_type?: "CAUSAL_LM" | null;
  /** LoRA+: how many times faster B and vectors learn than the rest. */
  loraplus_lr_ratio?: number | null;
}

/** What PEFT refuses in one config. */
function* contradictions(
  config: {
    [key in "target_modules" | "layers_to_transform" | "layers_pattern" | "init_lora_weights"]?: unknown;
  } & { use_dora: boolean; lora_bias: boolean },
): Generator<[string, string]> {
  const { target_modules, layers_to_transform, layers_pattern, init_lora_weights, use_dora, lora_bias } = config;
  if (typeof target_modules === "string") {
    for (const [key, value] of Object.entries({ layers_to_transform, layers_pattern })) {
      if (value == null) continue;
      yield [key, `needs a list of names in target_modules, which is ${JSON.stringify(target_modules)}`];
    }
  }
  if (layers_pattern != null && layers_to_transform == null) {
    yield ["layers_pattern", "says how layers are counted, but layers_to_transform, which counts them, is missing"];
  }
  if (lora_bias && use_dora) yield ["lora_bias", "does not go with use_dora; remove one of the two"];
  if (lora_bias && typeof init_lora_weights === "string") {
    yield ["lora_bias", `goes with init_lora_weights true or false only, not with ${init_lora_weights}`];
  }
}

/** Whether the first weights are taken out of the base, so that an adapter fits only a base without them. */
export const lessensBase = ({ init_lora_weights: init }: Pick<LoraConfig, "init_lora_weights">): boolean =>
  typeof init === "string" && (init === "olora" || init.startsWith("pissa"));

/** What becomes of an option, for people. */
export function fateOf(name: string): { fate: "honoured" } | { fate: "refused"; accepted: unknown; why: string } {
  const entry = (refused as Record<string, readonly [unknown, string]>)[name];
  return entry ? { fate: "refused", accepted: entry[0], why: entry[1] } : { fate: "honoured" };
}
