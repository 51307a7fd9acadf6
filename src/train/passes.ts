/** Which micro-batches are computed together. */

/** Neighbouring micro-batches that are computed in one pass: as many as fit, at least one. */
export function passesOf<T extends { inputIds: ArrayLike<number> }>(window: readonly T[][], limit: number): T[][][] {
  const passes: T[][][] = [];
  let tokens = Number.POSITIVE_INFINITY;
  for (const rows of window) {
    const size = rows.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
    if (tokens + size > limit) {
      passes.push([]);
      tokens = 0;
    }
    passes.at(-1)!.push(rows);
    tokens += size;
  }
  return passes;
}
