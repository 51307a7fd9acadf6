/** The dtype policy of a model: what is stored and what is computed, with no hidden casts. */
import { UserError } from "../support/errors.js";
import { type Device, hasBf16Instructions, setTf32 } from "../torch/index.js";

export type LowPrecision = "bfloat16" | "float16";

/**
 * Trained weights are stored in float32 always. `frozen`: how the others are stored; what a file has in 16 bits can stay
 * so under float32 arithmetic, for every such number is a float32 too. `compute`: the dtype of matrix products and
 * attention; the residual stream, norms, rotary embedding and loss are float32.
 */
export interface Precision {
  frozen: "as stored" | LowPrecision;
  compute: "float32" | LowPrecision;
}

export const float32Precision: Precision = { frozen: "as stored", compute: "float32" };

/**
 * What a format of 16 bits means on a device. CPUs have no instructions for products of matrices in float16, and few have
 * them for bfloat16; without them such products are several times slower than float32's. There it is how weights are
 * stored, and the arithmetic stays float32.
 */
export function lowPrecision(dtype: LowPrecision, device: Device): Precision {
  const native = device !== "cpu" || (dtype === "bfloat16" && hasBf16Instructions());
  return { frozen: dtype, compute: native ? dtype : "float32" };
}

/** What training works in. */
export function precisionFor({ bf16, fp16 }: { bf16: boolean; fp16: boolean }, device: Device): Precision {
  if (bf16) return lowPrecision("bfloat16", device);
  return fp16 ? lowPrecision("float16", device) : float32Precision;
}

/**
 * Lets float32 products of matrices be less exact (a fraction of 10 bits), or not, from now on.
 * @throws UserError for `tf32` on the CPU
 */
export function applyTf32(tf32: boolean | null, device: Device): void {
  if (tf32 && device === "cpu") {
    throw new UserError(
      "tf32: true, but the run computes on the CPU, which has no TensorFloat-32. Remove it, or run on an NVIDIA GPU (see npx slimtune doctor).",
    );
  }
  setTf32(tf32 === true);
}

/** The format that every weight is rounded to for an evaluation outside of a run, an adapter's weights too. */
export function fullEvalDtype(args: { bf16_full_eval: boolean; fp16_full_eval: boolean }): LowPrecision | undefined {
  if (args.bf16_full_eval) return "bfloat16";
  return args.fp16_full_eval ? "float16" : undefined;
}

export function describePrecision({ frozen, compute }: Precision): string {
  return frozen === compute ? compute : `frozen weights ${frozen}, ${compute} arithmetic`;
}
