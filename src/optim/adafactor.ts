/**
 * Adafactor (https://arxiv.org/abs/1804.04235) as the Trainer uses it: the learning rate is the run's own (no scale_parameter,
 * no relative_step), no first moment. A matrix keeps the mean squares R of its rows and C of its columns:
 *   d = 1 - t^-0.8;  R ← d·R + (1-d)·mean(g² + ε);  C likewise;  u ← g / √(R·C / mean(R))
 *   p ← p - lr·λ·p - lr · u / max(1, rms(u) / clip_threshold)
 */
import { optimizerOps } from "../torch/index.js";
import { float32State, type UpdateRule } from "./updateRule.js";

const EPS = 1e-30;
const CLIP_THRESHOLD = 1;
const DECAY_RATE = -0.8;

export function adafactor(): UpdateRule {
  return {
    states: ({ shape }) => {
      const [rows, columns] = shape;
      if (columns === undefined) return [float32State("exp_avg_sq", shape)];
      return [float32State("exp_avg_sq_row", [rows!]), float32State("exp_avg_sq_col", [columns])];
    },
    workspace: (parameters) => optimizerOps.adafactorWorkspace(parameters.map(({ tensor }) => tensor)),
    update: (slots, options) =>
      optimizerOps.adafactorStep_(
        {
          parameters: slots.map(({ parameter }) => parameter.tensor),
          gradients: slots.map(({ gradient }) => gradient),
          states: slots.flatMap(({ states }) => states),
          workspace: options.workspace!,
        },
        { ...options, decay: 1 - options.step ** DECAY_RATE, eps: EPS, clipThreshold: CLIP_THRESHOLD },
      ),
  };
}
