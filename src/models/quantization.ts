/** `quantization`: frozen weights in 4 or 8 bits, by the names and defaults of transformers' BitsAndBytesConfig. */

import { z } from "zod";
import { UserError } from "../support/errors.js";
import { zodProblem } from "../support/zodProblem.js";

/** Options that are accepted at one value, with the reason. */
const only = <const T>(accepted: readonly T[], reason: string) =>
  z
    .unknown()
    .refine((value) => value === undefined || value === null || (accepted as readonly unknown[]).includes(value), {
      message: reason,
    })
    .optional()
    .describe(`Only ${accepted.map((value) => JSON.stringify(value)).join(" or ")}: ${reason}.`) as z.ZodOptional<
    z.ZodType<T | null | undefined, T | null | undefined>
  >;

const OUTLIERS = "activations are not quantized (as with bitsandbytes on the CPU), so that none of them is an outlier";

/** The key `quantization` of a config. */
export const quantizationSchema = z
  .strictObject({
    load_in_4bit: z.boolean().optional().describe("Store the linear layers' weights in 4 bits (QLoRA)."),
    load_in_8bit: z
      .boolean()
      .optional()
      .describe(
        "Store the linear layers' weights in 8 bits: LLM.int8's weights, each row scaled by its largest. Activations are not quantized.",
      ),
    bnb_4bit_quant_type: z
      .enum(["fp4", "nf4"])
      .default("fp4")
      .describe("The 16 values of 4 bits: nf4 suits the normal distribution that weights have, fp4 is a tiny float."),
    bnb_4bit_use_double_quant: z
      .boolean()
      .default(false)
      .describe("Quantize the blocks' scales too: 4.13 bits per weight instead of 4.5."),
    bnb_4bit_compute_dtype: z
      .enum(["float32", "bfloat16", "float16"])
      .default("float32")
      .describe(
        "bfloat16 and float16 go with training_args.bf16 and fp16, which decide the arithmetic of the whole model.",
      ),
    bnb_4bit_quant_storage: only(["uint8"], "packed weights are bytes here"),
    llm_int8_threshold: only([6], OUTLIERS),
    llm_int8_has_fp16_weight: only([false], "8-bit weights are kept in 8 bits only"),
    llm_int8_skip_modules: z
      .custom<"lm_head" | ["lm_head"] | null>((value) => value == null || String(value) === "lm_head", {
        message: "the layers left out are fixed: all linear layers but lm_head are quantized",
      })
      .optional()
      .describe('Only ["lm_head"]: all linear layers but the output head are quantized.'),
    llm_int8_enable_fp32_cpu_offload: only([false], "there is one device, nothing is offloaded"),
  })
  .superRefine((value, { addIssue }) => {
    const { load_in_4bit, load_in_8bit } = value;
    if (load_in_4bit && load_in_8bit) {
      addIssue({
        code: "custom",
        path: ["load_in_8bit"],
        message: "load_in_4bit is true as well; keep one of the two",
      });
    }
    if (load_in_4bit === undefined && load_in_8bit === undefined) {
      addIssue({ code: "custom", message: "says neither load_in_4bit: true nor load_in_8bit: true; add one of them" });
    }
    if (!load_in_8bit) return;
    for (const key of ["bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"] as const) {
      if (value[key] === defaults[key]) continue;
      addIssue({ code: "custom", path: [key], message: "belongs to load_in_4bit; remove it, or use load_in_4bit" });
    }
  })
  .describe("Frozen weights in 4 or 8 bits, by the names of transformers' BitsAndBytesConfig; docs/quantization.md.");

const defaults = { bnb_4bit_quant_type: "fp4", bnb_4bit_use_double_quant: false, bnb_4bit_compute_dtype: "float32" };

/** Frozen weights in 4 or 8 bits, by the names and defaults of transformers' BitsAndBytesConfig. One of the first two is needed. */
export interface QuantizationConfigInput {
  /** The linear layers' weights in 4 bits, in blocks of 64 (QLoRA). */
  load_in_4bit?: boolean;
  /** The linear layers' weights in 8 bits, each row scaled by its largest; activations are not quantized. */
  load_in_8bit?: boolean;
  /** The 16 values of 4 bits. Default: fp4; nf4 suits weights better. */
  bnb_4bit_quant_type?: "fp4" | "nf4";
  /** The blocks' scales in 8 bits, too: 4.13 bits a weight instead of 4.5. Default: false. */
  bnb_4bit_use_double_quant?: boolean;
  /** bfloat16 and float16 go with `training_args.bf16` and `fp16`, which decide the arithmetic. Default: float32. */
  bnb_4bit_compute_dtype?: "float32" | "bfloat16" | "float16";
  /** Only its default: packed weights are bytes. */
  bnb_4bit_quant_storage?: "uint8" | null;
  /** Only its default: activations are not quantized, so that none is an outlier. */
  llm_int8_threshold?: 6 | null;
  /** Only its default. */
  llm_int8_has_fp16_weight?: false | null;
  /** Only its default: all linear layers but the output head are quantized. */
  llm_int8_skip_modules?: "lm_head" | ["lm_head"] | null;
  /** Only its default: there is one device. */
  llm_int8_enable_fp32_cpu_offload?: false | null;
}
export type QuantizationConfig = z.output<typeof quantizationSchema>;

/** How a weight is quantized. */
export type Quantization = { bits: 8 } | { bits: 4; type: "nf4" | "fp4"; double: boolean };

/** What the run it is for says of itself. */
export interface QuantizationContext {
  /** Weights are frozen, an adapter or nothing is trained. */
  frozen: boolean;
  bf16: boolean;
  fp16: boolean;
}

/**
 * Checks a config against its run; undefined where it is absent or switched off.
 * @throws UserError naming the option, what it contradicts and the fix
 */
export function quantizationFor(
  input: QuantizationConfigInput | undefined,
  { frozen, bf16, fp16 }: QuantizationContext,
): Quantization | undefined {
  if (input === undefined) return undefined;
  const parsed = quantizationSchema.safeParse(input);
  if (!parsed.success) throw new UserError(zodProblem(parsed.error, "quantization"));
  const config = parsed.data;
  if (!config.load_in_4bit && !config.load_in_8bit) return undefined;
  const option = `quantization.load_in_${config.load_in_4bit ? "4bit" : "8bit"}`;
  if (!frozen) {
    throw new UserError(
      `${option}: quantized weights cannot be trained, and this config trains all weights. Add \`lora\`, or remove \`quantization\`.`,
    );
  }
  const { bnb_4bit_compute_dtype: compute } = config;
  if ((compute === "bfloat16" && !bf16) || (compute === "float16" && !fp16)) {
    const argument = compute === "bfloat16" ? "bf16" : "fp16";
    throw new UserError(
      `quantization.bnb_4bit_compute_dtype: ${compute} goes with training_args.${argument}: true, which is not set. Set it, or remove bnb_4bit_compute_dtype.`,
    );
  }
  if (config.load_in_8bit) return { bits: 8 };
  return { bits: 4, type: config.bnb_4bit_quant_type, double: config.bnb_4bit_use_double_quant };
}

export function describeQuantization(quantization: Quantization): string {
  if (quantization.bits === 8) return "linear layers in 8 bits";
  const { type, double } = quantization;
  return `linear layers in 4 bits (${type}${double ? ", double quantization" : ""})`;
}
