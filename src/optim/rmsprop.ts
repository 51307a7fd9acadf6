/**
 * torch.optim.RMSprop: g ← g + λ·p;  v ← α·v + (1-α)·g²;  u ← g / (√v + ε);  p ← p - lr·u.
 * Centered, v loses the square of the running mean of g; with momentum, b ← μ·b + u takes the place of u.
 */
import { optimizerOps } from "../torch/index.js";
import { type Bits, elementwise } from "./elementwise.js";
import type { UpdateRule } from "./updateRule.js";

export interface RMSpropConfig {
  alpha: number;
  eps: number;
  momentum: number;
  centered: boolean;
}

export function rmsprop(config: RMSpropConfig, bits: Bits): UpdateRule {
  const states = ["square_avg"];
  if (config.centered) states.push("grad_avg");
  if (config.momentum !== 0) states.push("momentum_buffer");
  return elementwise(states, bits, (tensors, options) => optimizerOps.rmspropStep_(tensors, { ...config, ...options }));
}
