/** How many elements a tensor of this shape has; NaN where that leaves the integers that a double holds exactly. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, size) => (Number.isSafeInteger(count * size) ? count * size : Number.NaN), 1);
}
