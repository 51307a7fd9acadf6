/** Too little memory, as an error that says what to set. */
import { UserError } from "../support/errors.js";
import { isOutOfMemory } from "../torch/index.js";

export interface BatchArguments {
  per_device_train_batch_size: number;
  gradient_accumulation_steps: number;
}

/** The same updates in smaller pieces; where there are none, what else takes less memory. */
export function trainingAdvice(args: BatchArguments): string {
  const { per_device_train_batch_size: size, gradient_accumulation_steps: accumulation } = args;
  let factor = 2;
  while (factor < size && size % factor !== 0) factor++;
  if (size > 1) {
    return `Set per_device_train_batch_size to ${size / factor} and gradient_accumulation_steps to ${accumulation * factor}: the same updates, with less in memory at a time.`;
  }
  return "per_device_train_batch_size is 1 already, and gradient_accumulation_steps takes no more memory: lower max_length, set bf16, use a paged or 8-bit optimizer, or train a LoRA adapter instead of all weights.";
}

export function evaluationAdvice({ per_device_eval_batch_size: size }: { per_device_eval_batch_size: number }): string {
  return size > 1
    ? `Lower per_device_eval_batch_size (it is ${size}): the metrics stay the same.`
    : "per_device_eval_batch_size is 1 already: lower max_length, or set bf16.";
}

/** The error itself, or for one that tells of too little memory a UserError with the advice. */
export function explainMemory(error: unknown, advice: string): unknown {
  if (!isOutOfMemory(error)) return error;
  const [asked] = /\w+ out of memory.*?Tried to allocate [\d.]+ \w+/.exec((error as Error).message) ?? [];
  return new UserError(`Too little memory${asked ? ` (${asked})` : ""}. ${advice}`, {
    cause: error,
    code: "out_of_memory",
  });
}
