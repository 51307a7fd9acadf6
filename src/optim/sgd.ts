/** torch.optim.SGD: g ← g + λ·p;  b ← μ·b + (1-τ)·g, at first b ← g;  p ← p - lr·b, with Nesterov p - lr·(g + μ·b). */
import { optimizerOps } from "../torch/index.js";
import { elementwise } from "./elementwise.js";
import type { UpdateRule } from "./updateRule.js";

export interface SGDConfig {
  momentum: number;
  dampening: number;
  nesterov: boolean;
}

export function sgd(config: SGDConfig): UpdateRule {
  return elementwise(config.momentum === 0 ? [] : ["momentum_buffer"], 32, (tensors, options) => {
    const dampening = options.step === 1 ? 0 : config.dampening;
    optimizerOps.sgdStep_(tensors, { ...config, ...options, dampening });
  });
}
