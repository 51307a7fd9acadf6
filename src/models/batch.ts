/** Examples laid end to end: what a forward pass gets. */
/** One tokenised example; labels are -100 where nothing is to be learned, and not shifted. */
export interface Sequence {
  inputIds: Int32Array;
  labels: Int32Array;
  /** Of a packed row: the tokens of each example in it, in order. Absent: the row is one example. */
  lengths?: readonly number[];
  /** Where its examples stand, for messages: `file:line`. */
  sources?: readonly string[];
}

/** How Python lays out a batch: it computes padding, we only draw random numbers in that shape. */
export interface Layout {
  /** All rows joined into one. */
  paddingFree: boolean;
  /** Rows are padded to a multiple of this length; null: to the longest. */
  padToMultipleOf: number | null;
}

/** N tokens of several examples, without padding. */
export interface Batch {
  inputIds: Int32Array; // [N]
  positions: Int32Array; // [N], from 0 in each example
  /** Tokens of each example: none sees another, not even in a packed row. */
  lengths: number[];
  longest: number;
  /** Rows among the N whose next token is a label, and those labels. */
  targetRows: Int32Array; // [L]
  targets: Int32Array; // [L]
}

/** A micro-batch as Python lays it out. */
export interface PaddedShape {
  /** Tokens of each row. */
  rows: number[];
  /** What all rows are padded to. */
  width: number;
}

/** Lays the rows end to end. A token's target is the label of the token after it; the last of each example has none. */
export function collate(rows: readonly Sequence[]): Batch {
  const lengths = rows.flatMap(({ inputIds, lengths }) => lengths ?? [inputIds.length]);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const inputIds = new Int32Array(total);
  const positions = new Int32Array(total);
  const targetRows: number[] = [];
  const targets: number[] = [];
  let start = 0;
  for (const { inputIds: ids, labels, lengths = [ids.length] } of rows) {
    inputIds.set(ids, start);
    let first = 0;
    for (const length of lengths) {
      for (let i = 0; i < length; i++) {
        positions[start + first + i] = i;
        const label = i + 1 < length ? labels[first + i + 1]! : -100;
        if (label !== -100) {
          targetRows.push(start + first + i);
          targets.push(label);
        }
      }
      first += length;
    }
    start += ids.length;
  }
  return {
    inputIds,
    positions,
    lengths,
    longest: Math.max(0, ...lengths),
    targetRows: Int32Array.from(targetRows),
    targets: Int32Array.from(targets),
  };
}

/** The shape that a micro-batch of these rows has in Python. */
export function paddedShape(
  rows: readonly Sequence[],
  { paddingFree, padToMultipleOf: multiple }: Layout,
): PaddedShape {
  const lengths = rows.map(({ inputIds }) => inputIds.length);
  const laid = paddingFree ? [lengths.reduce((sum, length) => sum + length, 0)] : lengths;
  const width = Math.max(0, ...laid);
  return { rows: laid, width: multiple === null ? width : Math.ceil(width / multiple) * multiple };
}
