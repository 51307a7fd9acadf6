/** The order of examples in each epoch: the same as Python's for the same seed. */
import { ops, RandomGenerator, scope } from "../torch/index.js";

export interface SamplerArguments {
  seed: number;
  data_seed: number | null;
  train_sampling_strategy: string;
}

/** Row numbers of one epoch in the order of training; epoch e of a random order is drawn with seed + e. */
export async function epochOrder(examples: number, epoch: number, args: SamplerArguments): Promise<Int32Array> {
  if (args.train_sampling_strategy === "sequential") return Int32Array.from({ length: examples }, (_, i) => i);
  const generator = new RandomGenerator((args.data_seed ?? args.seed) + epoch);
  const permutation = scope(() => ops.randperm(examples, generator));
  try {
    return Int32Array.from((await permutation.values()) as BigInt64Array, Number);
  } finally {
    permutation.dispose();
    generator.dispose();
  }
}

/** A data loader of PyTorch draws one number from the default generator whenever it starts an epoch; so do we. */
export function drawLoaderSeed(): void {
  scope(() => ops.random_(ops.empty([], "int64")));
}
