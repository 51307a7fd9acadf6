/** What `dataset` and `eval_dataset` take in a program: what the config file takes, or rows. */
import { UserError } from "../support/errors.js";
import { zodProblem } from "../support/zodProblem.js";
import {
  type DatasetColumns,
  type DatasetEntry,
  type DatasetFormat,
  datasetSchema,
  ENTRY_KEYS,
  entryOf,
  type FileDataset,
} from "./config.js";
import { type DatasetRows, isRowSource, type RowSource } from "./rows.js";

/** Rows of a program with what a mapping in a config file may say of a dataset. */
export interface RowsEntry {
  /** Objects of any shape that `columns` maps, or that have a format's own columns. */
  rows: RowSource<object>;
  /** The rows' columns by our names: `{ prompt: "question", completion: "answer" }`. */
  columns?: DatasetColumns;
  /** Default: told from the columns of the first row. */
  format?: DatasetFormat;
  /** No more than so many rows. */
  max_samples?: number;
}

type Entry = string | FileDataset;

/** Files (a path, a pattern, a hub id, a mapping, or a list of them), or rows. */
export type DatasetInput = Entry | RowsEntry | readonly (Entry | RowsEntry)[] | DatasetRows;

/** One dataset to measure on, or several by name: the metrics of `{ dev, hard }` are `eval_dev_loss`, `eval_hard_loss`, ... */
export type EvalDatasetInput = DatasetInput | { readonly [name: string]: DatasetInput };

/** Rows, with the name that messages have for them. */
export type RowsSource = Omit<RowsEntry, "columns"> & { label: string; columns?: DatasetColumns };

export type Source = DatasetEntry | RowsSource;

/** A dataset to measure on. */
export interface NamedDataset {
  /** Undefined for the only one. */
  name: string | undefined;
  /** What it is called in messages. */
  label: string;
  dataset: DatasetInput;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !isRowSource(value);

const isEntry = (value: unknown) =>
  typeof value === "string" || (isObject(value) && (Object.hasOwn(value, "path") || Object.hasOwn(value, "rows")));

/**
 * The datasets of a spec, in order, each checked and with its defaults filled in.
 * @throws UserError for what is none
 */
export function datasetSources(spec: DatasetInput, label = "dataset"): Source[] {
  if (!Array.isArray(spec)) return [sourceOf(spec, label)];
  // A list that names a dataset lists datasets; any other is rows, each of which has the columns of some format.
  if (!spec.some(isEntry)) return [{ rows: spec, label }];
  return spec.map((entry, index) => sourceOf(entry, `${label}[${index}]`));
}

function sourceOf(entry: unknown, label: string): Source {
  if (isRowSource(entry)) return { rows: entry, label };
  if (isObject(entry) && Object.hasOwn(entry, "rows")) return ofRowsEntry(entry, label);
  const parsed = datasetSchema.safeParse(entry);
  if (!parsed.success) throw new UserError(zodProblem(parsed.error, label));
  return entryOf(parsed.data as Entry);
}

function ofRowsEntry({ rows, ...rest }: Record<string, unknown>, label: string): RowsSource {
  if (!isRowSource(rows)) {
    throw new UserError(
      `${label}.rows: expected an array, an iterable or a function that makes one, got ${typeof rows}`,
    );
  }
  const ofFiles = ["path", "name", "split"].find((key) => Object.hasOwn(rest, key));
  if (ofFiles) throw new UserError(`${label}.${ofFiles}: goes with files, and these are rows; remove it`);
  const { columns, format, max_samples } = sourceOf({ ...rest, path: "rows" }, label);
  return { rows, columns, format, max_samples, label: `${label}.rows` };
}

/** The datasets of `eval_dataset`. @throws UserError for names that metrics cannot have */
export function namedDatasets(spec: EvalDatasetInput, label = "eval_dataset"): NamedDataset[] {
  if (!isObject(spec) || isEntry(spec) || ENTRY_KEYS.some((key) => Object.hasOwn(spec, key))) {
    return [{ name: undefined, label, dataset: spec as DatasetInput }];
  }
  const named = Object.entries(spec as Record<string, DatasetInput>);
  if (named.length === 0) throw new UserError(`${label}: {} names no dataset. Give one by name, or leave it out.`);
  return named.map(([name, dataset]) => {
    if (/^[\w.-]+$/.test(name)) return { name, label: `${label}.${name}`, dataset };
    throw new UserError(`${label}: "${name}" cannot name a metric; use letters, digits, _, - and .`);
  });
}

/** The same for a file: rows themselves are not written out. */
export function recordedDataset(spec: unknown): unknown {
  if (Array.isArray(spec) && spec.some(isEntry)) return spec.map(recordedDataset);
  if (isRowSource(spec)) return Array.isArray(spec) ? `${spec.length} rows in memory` : "rows in memory";
  if (!isObject(spec)) return spec;
  if (Object.hasOwn(spec, "path")) return spec;
  return Object.fromEntries(
    Object.entries(spec).map(([key, value]) => [key, key === "columns" ? value : recordedDataset(value)]),
  );
}
