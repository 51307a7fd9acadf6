/** One optimizer update: windows of micro-batches forward and backward, clip, step. */
import { collate, type Layout, paddedShape, type Sequence } from "../models/batch.js";
import type { CausalLM, Objective } from "../models/causalLM.js";
import type { Optimizer, TrainedParameter } from "../optim/optimizer.js";
import { span } from "../support/spans.js";
import { clearGrad, gradOf, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { passesOf } from "./passes.js";

export interface Trainable {
  model: CausalLM;
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

export interface UpdateOptions {
  /** Of the gradients divided by `lossScale`. */
  gradNorm: number;
  maxGradNorm: number;
  learningRate: number;
  lossScale: number;
}

/** A turn for the event loop: timers, servers and Ctrl-C. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * Adds up the gradients of a window's micro-batches. Every micro-batch's loss is divided by the labelled tokens of the
 * whole window, so that the split into micro-batches changes nothing, and small ones can be computed together.
 * @param lossScale what the loss is multiplied by before the backward pass; the gradients are left so
 * @param onBatch after each micro-batch
 * @returns undefined when `onBatch` did not want to go on: the gradients are dropped
 */
export async function accumulate(
  { model, parameters, layout, objective, passTokens, recomputeEvery }: Trainable,
  window: readonly Sequence[][],
  lossScale: number,
  onBatch: (last: boolean) => Promise<boolean>,
): Promise<StepResult | undefined> {
  const passes = span("data", () =>
    passesOf(window, passTokens).map((parts) => ({
      batch: collate(parts.flat()),
      padded: parts.map((rows) => paddedShape(rows, layout)), // of each micro-batch
    })),
  );
  const items = passes.reduce((sum, { batch }) => sum + batch.targets.length, 0);
  const losses: Tensor[] = [];
  let left = window.length;
  try {
    for (const { batch, padded } of passes) {
      if (batch.targets.length > 0) {
        const { labelSmoothing, neftuneAlpha } = objective;
        // Micro-batches are computed together only where nothing is drawn at random.
        const noise = padded.length === 1 ? { padded: padded[0]!, neftuneAlpha } : undefined;
        const options = { labelSmoothing, noise, lossScale, recomputeEvery };
        losses.push(span("JavaScript", () => model.lossAndGradients(batch, items, options)));
      }
      for (const _ of padded) {
        await turn();
        if (!(await onBatch(--left === 0))) {
          dropGradients(parameters);
          return undefined;
        }
      }
    }
    if (items === 0) return { loss: Number.NaN, gradNorm: Number.NaN, tokens: 0, paddedTokens: 0 }; // a mean of nothing
    const summary = noGrad(() =>
      scope(() => {
        const norm = ops.gradNorm(parameters.map(({ tensor }) => gradOf(tensor)));
        return ops.stack([ops.sum(ops.stack(losses)), norm]);
      }),
    );
    const [loss, gradNorm] = await summary.values();
    summary.dispose();
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

/** Frees all gradients: the update is not made. */
export function dropGradients(parameters: readonly TrainedParameter[]): void {
  for (const { tensor } of parameters) clearGrad(tensor);
}

/**
 * Divides the gradients by `lossScale`, clips them to `maxGradNorm` (0: not at all), updates the weights and frees the
 * gradients.
 */
export function update(
  parameters: readonly TrainedParameter[],
  optimizer: Optimizer,
  { gradNorm, maxGradNorm, learningRate, lossScale }: UpdateOptions,
): void {
  noGrad(() =>
    scope(() => {
      const gradients = parameters.map(({ tensor }) => gradOf(tensor));
      const clip = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (gradNorm + 1e-6)) : 1;
      // Scales are powers of two: as one factor the two round as if one had followed the other.
      optimizer.step(gradients, learningRate, Math.fround(clip) / lossScale);
      for (const { tensor } of parameters) clearGrad(tensor);
    }),
  );
}
