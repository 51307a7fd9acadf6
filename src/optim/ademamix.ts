/**
 * AdEMAMix (https://arxiv.org/abs/2409.03137), as bitsandbytes computes it:
 *   p ← p - lr·λ·p;  m1 ← β1·m1 + (1-β1)·g;  m2 ← β3·m2 + (1-β3)·g;  v ← β2·v + (1-β2)·g²
 *   p ← p - lr · (m1 / (1-β1ᵗ) + α·m2) / (√(v / (1-β2ᵗ)) + ε)
 * α grows from 0 over t_alpha updates, and β3 from β1 over t_beta3, where these are given.
 */
import { optimizerOps } from "../torch/index.js";
import type { AdamWConfig } from "./adamw.js";
import { type Bits, elementwise } from "./elementwise.js";
import type { UpdateRule } from "./updateRule.js";

export interface AdEMAMixConfig extends AdamWConfig {
  beta3: number;
  alpha: number;
  tAlpha?: number;
  tBeta3?: number;
}

export function adEMAMix(config: AdEMAMixConfig, bits: Bits): UpdateRule {
  return elementwise(["exp_avg", "exp_avg_slow", "exp_avg_sq"], bits, (tensors, options) =>
    optimizerOps.adEMAMixStep_(tensors, {
      ...config,
      ...options,
      alpha: alphaAt(options.step, config),
      beta3: beta3At(options.step, config),
    }),
  );
}

function alphaAt(step: number, { alpha, tAlpha }: AdEMAMixConfig): number {
  return tAlpha === undefined ? alpha : Math.min((step * alpha) / tAlpha, alpha);
}

/** The half-life of the slow average grows linearly. */
function beta3At(step: number, { beta1, beta3, tBeta3 }: AdEMAMixConfig): number {
  if (tBeta3 === undefined) return beta3;
  const [fast, slow, share] = [Math.log(beta1), Math.log(beta3), step / tBeta3];
  return Math.min(Math.exp((fast * slow) / ((1 - share) * slow + share * fast)), beta3);
}
