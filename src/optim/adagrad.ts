/** torch.optim.Adagrad: g ← g + λ·p;  s ← s + g²;  p ← p - lr / (1 + (t-1)·lr_decay) · g / (√s + ε). */
import { optimizerOps } from "../torch/index.js";
import { elementwise } from "./elementwise.js";
import type { UpdateRule } from "./updateRule.js";

export function adagrad({ eps, lrDecay }: { eps: number; lrDecay: number }): UpdateRule {
  return elementwise(["sum"], 32, (tensors, options) => {
    const lr = options.lr / (1 + (options.step - 1) * lrDecay);
    optimizerOps.adagradStep_(tensors, { ...options, lr, eps });
  });
}
