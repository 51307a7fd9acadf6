/** `train_sampling_strategy: group_by_length`: examples of about the same length in each update, the order still random. */
import { ops, RandomGenerator, rngState, scope } from "../torch/index.js";

/** An epoch's order, and the state of the default generator from which it was drawn. */
export interface DrawnOrder {
  order: Int32Array;
  state: Uint8Array;
}

/**
 * Row numbers of one epoch, as the Trainer orders them: the permutation comes from the default generator.
 * @param updateSize examples of one update
 * @param state of the generator when a run that is now resumed drew the epoch's order: draws it again, and leaves the
 * default generator alone
 */
export async function lengthGroupedEpoch(
  lengths: readonly number[],
  updateSize: number,
  state?: Uint8Array,
): Promise<DrawnOrder> {
  const drawnFrom = state ?? (await rngState());
  const generator = state && new RandomGenerator(0);
  if (state) generator!.setState(state);
  const permutation = scope(() => ops.randperm(lengths.length, generator));
  try {
    const rows = Array.from((await permutation.values()) as BigInt64Array, Number);
    return { order: groupByLength(rows, lengths, updateSize), state: drawnFrom };
  } finally {
    permutation.dispose();
    generator?.dispose();
  }
}

/**
 * Cuts a permutation into stretches of up to 50 updates (fewer, so that there are at least four), sorts each by length,
 * longest first, and puts the longest example of all at the very beginning: memory runs out at once or not at all.
 */
export function groupByLength(
  permutation: readonly number[],
  lengths: readonly number[],
  updateSize: number,
): Int32Array {
  const stretch = updateSize * Math.max(1, Math.min(Math.floor(permutation.length / (updateSize * 4)), 50));
  const stretches: number[][] = [];
  for (let start = 0; start < permutation.length; start += stretch) {
    const rows = permutation.slice(start, start + stretch);
    stretches.push(rows.sort((a, b) => lengths[b]! - lengths[a]!));
  }
  const heads = stretches.map((rows) => lengths[rows[0]!]!);
  const longest = heads.indexOf(heads.reduce((most, length) => Math.max(most, length), 0));
  const [first, other] = [stretches[0]!, stretches[longest]!];
  [first[0], other[0]] = [other[0]!, first[0]!];
  return Int32Array.from(stretches.flat());
}
