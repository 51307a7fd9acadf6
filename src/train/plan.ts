/** How long a run is and where its windows of accumulated batches lie: the Trainer's arithmetic. */
import { UserError } from "../support/errors.js";

export interface PlanArguments {
  per_device_train_batch_size: number;
  gradient_accumulation_steps: number;
  num_train_epochs: number;
  max_steps: number;
  dataloader_drop_last: boolean;
}

export interface Plan {
  /** Examples, after dropping an incomplete last batch's where that is asked for. */
  examples: number;
  batchesPerEpoch: number;
  stepsPerEpoch: number;
  maxSteps: number;
  /** Epochs begun; the last may be cut. */
  epochs: number;
  /** per-device batch × accumulation × devices */
  effectiveBatch: number;
}

export const DEVICES = 1;

/**
 * Each epoch is cut into windows of `gradient_accumulation_steps` batches; the last window of an epoch may be shorter
 * and is a full update. Gradients never cross an epoch's border.
 */
export function planRun(examples: number, args: PlanArguments): Plan {
  const size = args.per_device_train_batch_size;
  const batchesPerEpoch = args.dataloader_drop_last ? Math.floor(examples / size) : Math.ceil(examples / size);
  if (batchesPerEpoch === 0) {
    throw new UserError(
      `dataset: ${examples} examples do not fill one batch of per_device_train_batch_size ${size} (dataloader_drop_last is on). Lower the batch size or turn dataloader_drop_last off.`,
    );
  }
  const stepsPerEpoch = Math.max(Math.ceil(batchesPerEpoch / args.gradient_accumulation_steps), 1);
  const byEpochs = args.max_steps <= 0;
  const maxSteps = byEpochs ? Math.ceil(args.num_train_epochs * stepsPerEpoch) : args.max_steps;
  return {
    examples,
    batchesPerEpoch,
    stepsPerEpoch,
    maxSteps,
    epochs: byEpochs ? Math.ceil(args.num_train_epochs) : Math.ceil(maxSteps / stepsPerEpoch),
    effectiveBatch: size * args.gradient_accumulation_steps * DEVICES,
  };
}

/** The batches of one update within an epoch, as [first, end). */
export function windowOf(plan: Plan, stepInEpoch: number, accumulation: number): [number, number] {
  const first = stepInEpoch * accumulation;
  return [first, Math.min(first + accumulation, plan.batchesPerEpoch)];
}
