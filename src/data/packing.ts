/** Several examples in one row of at most max_length tokens, as TRL 1.13 packs them; they never see each other. */
import { setImmediate } from "node:timers/promises";
import type { Example } from "./tokenize.js";

/** A row of examples laid end to end. */
export interface PackedRow extends Example {
  /** Tokens of each example, or piece of one, in the order in which they lie. */
  lengths: number[];
}

export interface PackingOptions {
  /** Tokens of a row at most. */
  max_length: number;
  packing_strategy: "bfd" | "bfd_split" | "wrapped";
  /** Positions of the model: no example, or piece of one, is longer. */
  max_positions?: number;
}

export interface PackedDataset {
  rows: PackedRow[];
  report: PackingReport;
}

export interface PackingReport {
  /** Examples longer than a row may hold: cut there (bfd), or in pieces (bfd_split, and wrapped at each row's end). */
  overlong: number;
  /** Rows of which no token gives a loss. They are kept, as TRL keeps them: they count in the order and in the updates. */
  withoutLabel: number;
  /** Tokens of all rows, and how many of them give a loss: the first of each example never does. */
  tokens: number;
  labels: number;
}

/** TRL packs so many examples among themselves: the batches of `Dataset.map`. */
const GROUP = 1000;

/**
 * Packs examples into rows. `bfd` (best fit, longest first) keeps each example whole and cuts off what is longer than a
 * row; `bfd_split` cuts such an example into pieces that are packed like examples; `wrapped` fills every row to its end,
 * whatever that cuts. Here the pieces of all three stay apart: TRL's `wrapped` lets neighbours see each other.
 */
export async function packExamples(examples: readonly Example[], options: PackingOptions): Promise<PackedDataset> {
  const { max_length: capacity, packing_strategy: strategy, max_positions = Infinity } = options;
  const limit = Math.min(capacity, max_positions);
  const report: PackingReport = { overlong: 0, withoutLabel: 0, tokens: 0, labels: 0 };
  const rows: PackedRow[] = [];
  for (let start = 0; start < examples.length; start += GROUP) {
    const group = examples.slice(start, start + GROUP).filter(({ inputIds }) => inputIds.length > 0);
    report.overlong += group.filter(({ inputIds }) => inputIds.length > limit).length;
    const bins =
      strategy === "wrapped" ? wrap(group, capacity, limit) : bestFit(cutTo(group, strategy, limit), capacity);
    for (const bin of bins) {
      const row = join(bin);
      const labels = countTargets(row);
      if (labels === 0) report.withoutLabel++;
      report.tokens += row.inputIds.length;
      report.labels += labels;
      rows.push(row);
    }
    await setImmediate();
  }
  return { rows, report };
}

const slice = ({ inputIds, labels, sources }: Example, start: number, end: number): Example => ({
  sources,
  inputIds: inputIds.subarray(start, end),
  labels: labels.subarray(start, end),
});

/** Pieces of at most `limit` tokens: the first of each example only, or all. */
function cutTo(examples: readonly Example[], strategy: "bfd" | "bfd_split", limit: number): Example[] {
  return strategy === "bfd"
    ? examples.map((example) => slice(example, 0, limit))
    : examples.flatMap((example) => pieces(example, limit));
}

function pieces(example: Example, limit: number): Example[] {
  const count = Math.ceil(example.inputIds.length / limit);
  return Array.from({ length: count }, (_, i) => slice(example, i * limit, (i + 1) * limit));
}

/** Each piece, the longest first, goes into the fullest row that has room for it; of such rows, into the oldest. */
function bestFit(examples: readonly Example[], max_length: number): Example[][] {
  // One row for all is the longest that there can be.
  const capacity = Math.min(
    max_length,
    examples.reduce((sum, { inputIds }) => sum + inputIds.length, 0),
  );
  const bins: Example[][] = [];
  const withRoom: Example[][][] = Array.from({ length: capacity }, () => []); // rows by the tokens they still take
  for (const example of examples.toSorted((a, b) => b.inputIds.length - a.inputIds.length)) {
    const { length } = example.inputIds;
    let room = length;
    while (room < capacity && withRoom[room]!.length === 0) room++;
    let bin: Example[];
    if (room < capacity) {
      bin = withRoom[room]!.shift()!;
    } else {
      bin = [];
      bins.push(bin);
    }
    bin.push(example);
    withRoom[room - length]!.push(bin);
  }
  return bins;
}

/** All tokens in one line, cut into rows of `capacity`. */
function wrap(examples: readonly Example[], capacity: number, limit: number): Example[][] {
  const bins: Example[][] = [];
  let room = 0;
  for (const example of examples) {
    const { length } = example.inputIds;
    for (let start = 0; start < length; ) {
      if (room === 0) {
        bins.push([]);
        room = capacity;
      }
      const end = Math.min(length, start + room, start + limit);
      bins.at(-1)!.push(slice(example, start, end));
      room -= end - start;
      start = end;
    }
  }
  return bins;
}

function join(bin: readonly Example[]): PackedRow {
  const lengths = bin.map(({ inputIds }) => inputIds.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const row: PackedRow = { inputIds: new Int32Array(total), labels: new Int32Array(total), lengths };
  const sources = new Set(bin.flatMap(({ sources }) => sources ?? []));
  if (sources.size > 0) row.sources = [...sources];
  let start = 0;
  for (const { inputIds, labels } of bin) {
    row.inputIds.set(inputIds, start);
    row.labels.set(labels, start);
    start += inputIds.length;
  }
  return row;
}

function countTargets({ labels, lengths }: PackedRow): number {
  let targets = 0;
  let start = 0;
  for (const length of lengths) {
    for (let i = start + 1; i < start + length; i++) if (labels[i] !== -100) targets++;
    start += length;
  }
  return targets;
}
