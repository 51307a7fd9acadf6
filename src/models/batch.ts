/** Examples laid end to end: what a forward pass gets. */
import { ops, type Tensor } from "../torch/index.js";
import type { DropoutSource } from "./linear.js";

/** One tokenised example; labels are -100 where nothing is to be learned, and not shifted. */
export interface Sequence {
  inputIds: Int32Array;
  labels: Int32Array;
}

/** N tokens of several sequences, without padding. */
export interface Batch {
  inputIds: Int32Array; // [N]
  positions: Int32Array; // [N], from 0 in each sequence
  lengths: number[];
  longest: number;
  /** Rows among the N whose next token is a label, and those labels. */
  targetRows: Int32Array; // [L]
  targets: Int32Array; // [L]
}

/** Lays the examples end to end. A token's target is the label of the token after it; the last of each has none. */
export function collate(examples: readonly Sequence[]): Batch {
  const lengths = examples.map(({ inputIds }) => inputIds.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const inputIds = new Int32Array(total);
  const positions = new Int32Array(total);
  const targetRows: number[] = [];
  const targets: number[] = [];
  let start = 0;
  for (const { inputIds: ids, labels } of examples) {
    inputIds.set(ids, start);
    for (let i = 0; i < ids.length; i++) {
      positions[start + i] = i;
      const label = i + 1 < ids.length ? labels[i + 1]! : -100;
      if (label !== -100) {
        targetRows.push(start + i);
        targets.push(label);
      }
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

/**
 * Dropout masks as Python draws them: over the batch padded to its longest sequence, [B, T, width], of which the rows
 * of real tokens are taken. So the same seed drops the same activations.
 */
export function paddedDropout(batch: Batch): DropoutSource {
  const { lengths, longest } = batch;
  const padded = lengths.some((length) => length !== longest);
  let rows: Tensor | undefined;
  return {
    mask(p: number, width: number): Tensor {
      const mask = ops.empty([lengths.length * longest, width]);
      ops.bernoulli_(mask, 1 - p);
      const scaled = ops.mulScalar(mask, 1 / (1 - p));
      if (!padded) return scaled;
      rows ??= ops.int64(lengths.flatMap((length, row) => Array.from({ length }, (_, i) => row * longest + i)));
      return ops.indexSelect(scaled, 0, rows);
    },
  };
}
