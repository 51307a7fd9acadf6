/**
 * Lion (https://arxiv.org/abs/2302.06675), as bitsandbytes computes it:
 *   p ← p - lr·λ·p;  p ← p - lr · sign(β1·m + (1-β1)·g);  m ← β2·m + (1-β2)·g
 */
import { optimizerOps } from "../torch/index.js";
import { type Bits, elementwise } from "./elementwise.js";
import type { UpdateRule } from "./updateRule.js";

export function lion(config: { beta1: number; beta2: number }, bits: Bits): UpdateRule {
  return elementwise(["exp_avg"], bits, (tensors, options) =>
    optimizerOps.lionStep_(tensors, { ...config, ...options }),
  );
}
