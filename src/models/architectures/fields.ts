/** What pages read of a config.json: fields in transformers' spelling of version 4 or 5, absent ones at its classes' defaults. */
import { z } from "zod";
import type { Activation } from "../../torch/fused.js";

export const size = z.number().int().positive();
export const positive = z.number().positive();
export const flag = (absent: boolean) => z.boolean().default(absent);
/** A size that may be null: then it follows from others, or there is none. */
export const sizeOrNull = (absent: number | null) => size.nullable().default(absent);
/** A probability, of dropout. */
export const dropout = (absent = 0) =>
  z
    .number()
    .min(0)
    .lt(1)
    .nullish()
    .transform((value) => value ?? absent);

const ids = z.union([z.number().int(), z.array(z.number().int())]).nullish();

/** A key that counts for the result and is built for these values only. */
export const only = (accepted: readonly unknown[], reason: string) =>
  z
    .unknown()
    .refine((value) => value === undefined || value === null || accepted.includes(value), {
      error: ({ input }) => `${JSON.stringify(input)} is not supported: ${reason}`,
    })
    .optional();

const ACTIVATIONS: Record<string, Activation> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  relu: "relu",
  relu2: "relu2",
};

/** An activation by transformers' name. */
export const activation = (absent: string) =>
  z
    .string()
    .default(absent)
    .transform((name, { addIssue }): Activation => {
      const known = ACTIVATIONS[name];
      if (known) return known;
      addIssue({
        code: "custom",
        message: `'${name}' is not supported; ${Object.keys(ACTIVATIONS).join(", ")} are`,
      });
      return z.NEVER;
    });

const layerType = z.enum(["full_attention", "sliding_attention"], {
  error: ({ input }) => `${JSON.stringify(input)} is not supported; full_attention and sliding_attention are`,
});
export const layerTypes = z.array(layerType).nullish();
export type LayerTypes = z.output<typeof layerTypes>;

export const ropeParameters = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(), // the oldest spelling of rope_type
  rope_theta: positive.optional(),
  factor: positive.nullish(),
  partial_rotary_factor: positive.max(1).nullish(),
  original_max_position_embeddings: size.nullish(),
  low_freq_factor: z.number().optional(),
  high_freq_factor: z.number().optional(),
  short_factor: z.array(positive).nullish(),
  long_factor: z.array(positive).nullish(),
  attention_factor: z.number().nullish(),
  beta_fast: z.number().nullish(),
  beta_slow: z.number().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().optional(),
  llama_4_scaling_beta: z.number().nullish(), // Ministral 3's
  alpha: z.number().nonnegative().nullish(), // Hunyuan's
});
export type RopeParameters = z.output<typeof ropeParameters>;

/** How a config spells its rotation: version 5 in one object, version 4 in two keys. */
export const rope = {
  rope_parameters: ropeParameters.nullish(),
  rope_scaling: ropeParameters.nullish(),
  rope_theta: positive.nullish(),
  partial_rotary_factor: positive.max(1).nullish(),
  original_max_position_embeddings: size.nullish(),
};

/** The class's defaults that nearly every config leaves to its file. */
interface Absent {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  /** null: as many as there are heads. */
  num_key_value_heads?: number | null;
  /** null: hidden_size / num_attention_heads. */
  head_dim?: number | null;
  max_position_embeddings: number;
  hidden_act?: string;
  tie_word_embeddings?: boolean;
  pad_token_id?: number;
}

/** The fields of a decoder as most configs spell them. */
export function decoderFields(absent: Absent) {
  return {
    vocab_size: size.default(absent.vocab_size),
    hidden_size: size.default(absent.hidden_size),
    intermediate_size: size.default(absent.intermediate_size),
    num_hidden_layers: size.default(absent.num_hidden_layers),
    num_attention_heads: size.default(absent.num_attention_heads),
    num_key_value_heads: sizeOrNull(absent.num_key_value_heads ?? null),
    head_dim: sizeOrNull(absent.head_dim ?? null),
    max_position_embeddings: size.default(absent.max_position_embeddings),
    hidden_act: activation(absent.hidden_act ?? "silu"),
    tie_word_embeddings: flag(absent.tie_word_embeddings ?? false),
    attention_dropout: dropout(),
    eos_token_id: ids,
    pad_token_id: z
      .number()
      .int()
      .nullable()
      .default(absent.pad_token_id ?? null),
    ...rope,
  };
}
/** What `decoderFields` give, without the rotation, which some pages spell in another way. */
export type DecoderConfig = Omit<z.output<z.ZodObject<ReturnType<typeof decoderFields>>>, keyof typeof rope>;

export const eosTokenId = ids;
