/**
 * AdamW (https://arxiv.org/abs/1711.05101) as torch.optim.AdamW computes it:
 *   p ← p - lr·λ·p;  m ← β1·m + (1-β1)·g;  v ← β2·v + (1-β2)·g²
 *   p ← p - lr · (m / (1-β1ᵗ)) / (√(v / (1-β2ᵗ)) + ε)
 * With 8-bit states too the weights decay first, as on bitsandbytes' CPU path; its CUDA kernels decay last.
 */
import { optimizerOps } from "../torch/index.js";
import { elementwise } from "./elementwise.js";
import type { UpdateRule } from "./updateRule.js";

export interface AdamWConfig {
  beta1: number;
  beta2: number;
  eps: number;
}

const STATES = ["exp_avg", "exp_avg_sq"] as const;

export function adamW(config: AdamWConfig): UpdateRule {
  return elementwise(STATES, 32, (tensors, options) =>
    optimizerOps.torchAdamWStep_(tensors, { ...config, ...options }),
  );
}

export function adamW8bit(config: AdamWConfig): UpdateRule {
  return elementwise(STATES, 8, (tensors, options) => optimizerOps.adamWStep_(tensors, { ...config, ...options }));
}
