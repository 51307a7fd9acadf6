/** The gradients of one update: a window of micro-batches, forward and backward. */
import { collate, type Layout, paddedShape, type Sequence } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import type { TrainedParameter } from "../optim/optimizer.js";
import { span } from "../support/spans.js";
import { type Device, gradOf, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { passesOf } from "./passes.js";

/** A run's settings for each of its losses: the `labelSmoothing` of LossOptions, the `neftuneAlpha` of TrainingNoise. */
export interface Objective {
  labelSmoothing: number;
  neftuneAlpha: number | null;
}

export interface Trainable {
  model: CausalLM;
  device: Device;
  parameters: readonly TrainedParameter[];
  layout: Layout;
  objective: Objective;
  /** Micro-batches are computed together up to this many tokens; 0: each by itself. */
  passTokens: number;
  /** Layers that are computed again in the backward pass: one of so many; 0: none. */
  recomputeEvery: number;
}

export interface StepResult {
  /** Σ cross entropy / labelled tokens, over the whole window. */
  loss: number;
  /** L2 norm of all gradients before clipping, without the loss scale. */
  gradNorm: number;
  /** Tokens computed. */
  tokens: number;
  /** Tokens that Python would compute, with padding. */
  paddedTokens: number;
}

/** A turn for the event loop: timers, servers and Ctrl-C. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * Adds up the gradients of a window's micro-batches. Every micro-batch's loss is divided by the labelled tokens of the
 * whole window, so that the split into micro-batches changes nothing, and small ones can be computed together.
 */
export async function accumulate(
  { model, parameters, layout, objective, passTokens, recomputeEvery }: Trainable,
  window: readonly Sequence[][],
  lossScale: number,
): Promise<StepResult> {
  const passes = span("data", () =>
    passesOf(window, passTokens).map((parts) => ({
      batch: collate(parts.flat()),
      padded: parts.map((rows) => paddedShape(rows, layout)), // of each micro-batch
    })),
  );
  const items = passes.reduce((sum, { batch }) => sum + batch.targets.length, 0);
  const draws = passTokens === 0;
  const losses: Tensor[] = [];
  try {
    for (const { batch, padded } of passes) {
      // As in Python: without a label a batch gives no loss, but its masks and its noise are drawn; and where a whole window
      // has none, its loss and all its gradients are zero.
      if (batch.targets.length > 0 || items === 0 || draws) {
        const { labelSmoothing, neftuneAlpha } = objective;
        // Micro-batches are computed together only where nothing is drawn at random.
        const noise = padded.length === 1 ? { padded: padded[0]!, neftuneAlpha } : undefined;
        const options = { labelSmoothing, noise, lossScale, recomputeEvery };
        losses.push(span("JavaScript", () => model.lossAndGradients(batch, Math.max(items, 1), options)));
      }
      await turn();
    }
    const summary = noGrad(() =>
      scope(() => {
        const norm = ops.gradNorm(parameters.map(({ tensor }) => gradOf(tensor)));
        return ops.stack([ops.sum(ops.stack(losses)), norm]);
      }),
    );
    const [loss, gradNorm] = await summary.values().finally(() => summary.dispose());
    return {
      loss: Number(loss),
      gradNorm: Number(gradNorm) / lossScale,
      tokens: passes.reduce((sum, { batch }) => sum + batch.inputIds.length, 0),
      paddedTokens: passes
        .flatMap(({ padded }) => padded)
        .reduce((sum, { rows, width }) => sum + rows.length * width, 0),
    };
  } finally {
    for (const loss of losses) loss.dispose();
  }
}
