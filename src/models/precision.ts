/** The dtype policy of a model: what is stored and what is computed, with no hidden casts. */
import { type Device, hasBf16Instructions } from "../torch/index.js";

/**
 * Trained weights are stored in float32 always. `frozen`: how the others are stored; what a file has in 16 bits can stay
 * so under float32 arithmetic, for every such number is a float32 too. `compute`: the dtype of matrix products and
 * attention; the residual stream, norms, rotary embedding and loss are float32.
 */
export interface Precision {
  frozen: "as stored" | "bfloat16";
  compute: "float32" | "bfloat16";
}

export const float32Precision: Precision = { frozen: "as stored", compute: "float32" };

/**
 * What `bf16: true` means on a device. Without bf16 instructions a CPU's bf16 matrix products are several times slower than
 * float32's, so that there bf16 is how weights are stored, and the arithmetic stays float32.
 */
export function bf16Precision(device: Device): Precision {
  return { frozen: "bfloat16", compute: device !== "cpu" || hasBf16Instructions() ? "bfloat16" : "float32" };
}

export function precisionFor(bf16: boolean, device: Device): Precision {
  return bf16 ? bf16Precision(device) : float32Precision;
}

export function describePrecision({ frozen, compute }: Precision): string {
  return frozen === compute ? compute : `frozen weights ${frozen}, ${compute} arithmetic`;
}
