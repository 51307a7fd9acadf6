/** The weight of a frozen linear layer in 4 or 8 bits. */
import { type Device, fused, keep, ops, scope, type Tensor } from "../torch/index.js";
import type { Quantization } from "./quantization.js";

export class QuantizedWeight {
  readonly codes: Tensor;
  /** What turns the codes into numbers. */
  readonly scales: readonly Tensor[];

  /** @param weight [out, in] in float32, float16 or bfloat16, on the CPU; it stays the caller's */
  constructor(weight: Tensor, quantization: Quantization, device: Device) {
    const [codes, ...scales] = scope(() =>
      (quantization.bits === 8
        ? fused.quantize8bit(weight)
        : fused.quantize4bit(weight, quantization.type, quantization.double)
      ).map((part) => ops.toDevice(part, device)),
    ).map(keep);
    this.codes = codes!;
    this.scales = scales;
  }

  dispose(): void {
    for (const tensor of [this.codes, ...this.scales]) tensor.dispose();
  }
}
