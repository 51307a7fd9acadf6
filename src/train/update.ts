/** One optimizer update as a unit: it is made whole, or nothing of it is. */
import type { Sequence } from "../models/batch.js";
import type { Optimizer, TrainedParameter } from "../optim/optimizer.js";
import { span } from "../support/spans.js";
import {
  clearGrad,
  type Device,
  flush,
  gradOf,
  isOutOfMemory,
  noGrad,
  rngState,
  scope,
  setRngState,
} from "../torch/index.js";
import { accumulate, type StepResult, type Trainable } from "./accumulate.js";

export interface UpdateOptions {
  learningRate: number;
  /** The norm that gradients are clipped to; 0: not at all. */
  maxGradNorm: number;
  /** What the loss is multiplied by before the backward pass, and the gradients divided by after it. */
  lossScale: number;
}

/** What happens within an update beside the arithmetic; throwing ends the update, and leaves everything as it was. */
export interface UpdateHooks {
  /** All gradients are there. False: the update is not wanted any more. */
  computed(): Promise<boolean>;
  /** The loss and the gradients are finite, and the weights are about to change. */
  beforeStep(): Promise<void>;
}

/** Why an update was not made. */
export type FailureKind =
  /** Memory ran out. */
  | "memory"
  /** The loss or a gradient is NaN or infinite. */
  | "non-finite"
  /** It was stopped before the weights changed. */
  | "stopped";

/** An update was not made: weights, states, gradients and generators are as they were before it. */
export class UpdateFailure extends Error {
  override readonly name = "UpdateFailure";
  readonly kind: FailureKind;
  /** What was computed; absent where it did not come so far. */
  readonly result: StepResult | undefined;
  readonly #device: Device;
  readonly #random: Uint8Array | undefined;

  constructor(
    kind: FailureKind,
    device: Device,
    { result, random, cause }: { result?: StepResult; random?: Uint8Array; cause?: unknown },
  ) {
    super(cause === undefined ? `update: ${kind}` : (cause as Error).message, { cause });
    this.kind = kind;
    this.result = result;
    this.#device = device;
    this.#random = random;
  }

  /** The update counts as used all the same: the generator goes on where its passes had left it. */
  useRandom(): void {
    if (this.#random) setRngState(this.#random, this.#device);
  }
}

/** An update was made of finite gradients, and weights or states are NaN or infinite now: only a checkpoint has good ones. */
export class BrokenWeights extends Error {
  override readonly name = "BrokenWeights";
  readonly result: StepResult;

  constructor(result: StepResult) {
    super("update: it made weights that are not finite");
    this.result = result;
  }
}

/**
 * One update from a window of micro-batches: all passes, then the hooks, then the optimizer's step.
 * @throws UpdateFailure, and what a hook throws: everything is then as it was before. BrokenWeights
 */
export async function makeUpdate(
  run: Trainable,
  optimizer: Optimizer,
  window: readonly Sequence[][],
  options: UpdateOptions,
  hooks: UpdateHooks,
): Promise<StepResult> {
  const { device, parameters } = run;
  let before: Uint8Array | undefined;
  let stepping = false;
  try {
    before = await rngState(device);
    const result = await accumulate(run, window, options.lossScale);
    if (!(await hooks.computed())) throw new UpdateFailure("stopped", device, { result });
    if (!Number.isFinite(result.loss) || !Number.isFinite(result.gradNorm)) {
      throw new UpdateFailure("non-finite", device, { result, random: await rngState(device) });
    }
    await hooks.beforeStep();
    stepping = true;
    span("JavaScript", () => step(parameters, optimizer, result.gradNorm, options));
    if (await optimizer.madeNonFinite()) throw new BrokenWeights(result);
    return result;
  } catch (error) {
    if (error instanceof BrokenWeights) throw error;
    await flush().catch(() => {}); // a failure that nobody was told of would hold up what follows
    if (stepping) optimizer.undoStep();
    dropGradients(parameters);
    if (before) setRngState(before, device);
    throw isOutOfMemory(error) ? new UpdateFailure("memory", device, { cause: error }) : error;
  }
}

/** Frees all gradients: the update is not made. */
function dropGradients(parameters: readonly TrainedParameter[]): void {
  for (const { tensor } of parameters) clearGrad(tensor);
}

/** Divides the gradients by the loss scale, clips them, updates the weights and frees the gradients; enqueued. */
function step(
  parameters: readonly TrainedParameter[],
  optimizer: Optimizer,
  gradNorm: number,
  { maxGradNorm, learningRate, lossScale }: UpdateOptions,
): void {
  noGrad(() =>
    scope(() => {
      const gradients = parameters.map(({ tensor }) => gradOf(tensor));
      const clip = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (gradNorm + 1e-6)) : 1;
      // Scales are powers of two: as one factor the two round as if one had followed the other.
      optimizer.step(gradients, learningRate, Math.fround(clip) / lossScale);
      dropGradients(parameters);
    }),
  );
}
