/** From what a config or a program names as its data to rows: found, read, sliced, their columns mapped, their format told. */
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../support/errors.js";
import { isHubId } from "../support/hubId.js";
import type { DatasetEntry } from "./config.js";
import { asObject, isReadable, type RawRow, readRows } from "./fileRows.js";
import { detectFormat, listKeys } from "./format.js";
import { globFiles, isGlob } from "./glob.js";
import type { Row } from "./row.js";
import { collectRows } from "./rows.js";
import { type DatasetInput, datasetSources, type RowsSource } from "./sources.js";
import { parseSplit } from "./splitSlice.js";

export interface LoadOptions {
  /** Resolves the id of a hub dataset to local files. Without it, only local paths can be read. */
  resolveDatasetPath?: (id: string, options: { name?: string; split?: string }) => Promise<string[]>;
  /** Column of plain-text rows (the training argument of that name). Default: "text". */
  dataset_text_field?: string;
  /** What the option is called that the dataset was given by, for messages. Default: dataset. */
  label?: string;
  /** Of each dataset no more than its first so many rows, unless it says another number. */
  max_samples?: number;
  signal?: AbortSignal;
}

/**
 * Reads the rows of every dataset of a spec, in the order given.
 * @throws UserError for a missing or empty file, a broken line (with file, line number and reason), rows that are no
 * objects, a mapped column that a row lacks, and columns that fit no format.
 */
export async function loadRows(spec: DatasetInput, options: LoadOptions = {}): Promise<Row[]> {
  const rows: Row[] = [];
  for (const source of datasetSources(spec, options.label)) {
    const { columns, max_samples: limit = options.max_samples } = source;
    const raw = "rows" in source ? await ofProgram(source, limit, options) : await ofFiles(source, limit, options);
    const mapped = columns === undefined ? raw : raw.map((row) => mapColumns(row, columns));
    const { format = "auto" } = source;
    const told = format === "auto" ? detectFormat(mapped[0]!, options.dataset_text_field ?? "text") : format;
    for (const { fields, source } of mapped) rows.push({ fields, source, format: told });
  }
  return rows;
}

async function ofProgram({ rows, label }: RowsSource, limit: number | undefined, { signal }: LoadOptions) {
  const made = await collectRows(rows, limit, signal, (value) => {
    throw new UserError(
      `${label}: the function gave ${value === null ? "null" : typeof value}, which rows cannot be taken from. It must give an array, an iterable or an async iterable.`,
    );
  });
  if (made.length === 0) throw new UserError(`${label} is empty: it has no rows. Give it examples.`);
  return made.map((row, index): RawRow => {
    const source = `${label}[${index}]`;
    return { fields: asObject(row, source), source };
  });
}

async function ofFiles(entry: DatasetEntry, limit: number | undefined, options: LoadOptions): Promise<RawRow[]> {
  const rows: RawRow[] = [];
  const read: string[] = [];
  // A slice needs to know how many rows there are; a limit alone does not.
  for (const { name: split, slice } of entry.split === undefined ? [{}] : parseSplit(entry.split)) {
    const files = await findFiles({ ...entry, split }, slice !== undefined, options);
    const part = await rowsOf(files, slice ? undefined : limit, options.signal);
    for (const row of slice ? part.slice(...slice(part.length)) : part) rows.push(row);
    read.push(...files);
  }
  if (rows.length > 0) return limit === undefined ? rows : rows.slice(0, limit);
  const what = entry.split === undefined ? "" : ` within split: ${entry.split}`;
  throw new UserError(
    `dataset ${entry.path} is empty: ${read.join(", ")} has no rows${what}. Give a file with examples.`,
  );
}

async function rowsOf(files: readonly string[], limit = Number.POSITIVE_INFINITY, signal?: AbortSignal) {
  const rows: RawRow[] = [];
  for (const file of files) {
    for await (const some of readRows(file, signal)) {
      for (const row of some) rows.push(row);
      if (rows.length >= limit) return rows;
    }
  }
  return rows;
}

/** Only the mapped columns, and what may go with a conversation: columns that the config does not name are not used. */
function mapColumns({ fields, source }: RawRow, columns: NonNullable<DatasetEntry["columns"]>): RawRow {
  const mapped: RawRow["fields"] = {};
  for (const extra of ["tools", "chat_template_kwargs"]) {
    if (Object.hasOwn(fields, extra)) mapped[extra] = fields[extra];
  }
  for (const [role, column] of Object.entries(columns)) {
    if (column === undefined) continue;
    if (!Object.hasOwn(fields, column)) {
      throw new UserError(
        `${source}: there is no column "${column}", which dataset.columns names for ${role}; ` +
          `the row has ${listKeys(fields)}`,
      );
    }
    mapped[role] = fields[column];
  }
  return { fields: mapped, source };
}

/** @param sliced the split goes on with a slice */
async function findFiles(entry: DatasetEntry, sliced: boolean, options: LoadOptions): Promise<string[]> {
  const { path: given, name, split } = entry;
  const info = await stat(given).catch(() => undefined);
  if (info !== undefined && name !== undefined) {
    throw new UserError(
      `dataset ${given}: \`name: ${name}\` is a configuration of a hub dataset, but this path is here. Remove name, or ` +
        "give the files of that configuration as path.",
    );
  }
  if (info?.isDirectory()) return filesOfFolder(given, split);
  if (info === undefined && isHubId(given) && !isReadable(given) && options.resolveDatasetPath) {
    const files = await options.resolveDatasetPath(given, { name, split }).catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
      throw new UserError(`dataset ${given}: no such file or folder here, and on the hub: ${error.message}`, {
        cause: error,
      });
    });
    if (files.length === 0) throw new UserError(`dataset ${given}: the hub dataset has no file that can be read`);
    return files;
  }
  // As for Python's `datasets`, what is read from files alone is the split "train".
  const wholeOrSlice = split === undefined || (sliced && split === "train");
  if (info !== undefined && !wholeOrSlice) {
    throw new UserError(
      `dataset ${given}: \`split: ${split}\` chooses among the files of a hub dataset or of a folder; this is one file. ` +
        "Remove split, take a slice of the file (train[:80%]), or give the folder as path.",
    );
  }
  if (info !== undefined) return [given];
  if (!isGlob(given))
    throw new UserError(`dataset ${given}: no such file or folder. Check the path (from ${process.cwd()}).`);
  if (name !== undefined || !wholeOrSlice) {
    throw new UserError(
      `dataset ${given}: name and split do not go with a pattern, which itself chooses. Remove them.`,
    );
  }
  const files = await globFiles(given);
  if (files.length === 0) throw new UserError(`dataset ${given}: no file matches this pattern (from ${process.cwd()})`);
  return files;
}

/** A table beside JSON holds the same rows once more. */
function preferJson(names: string[]): string[] {
  const json = names.filter((name) => !/\.csv(\.gz)?$/i.test(name));
  return json.length > 0 ? json : names;
}

async function filesOfFolder(folder: string, split: string | undefined): Promise<string[]> {
  const names = preferJson((await readdir(folder)).filter(isReadable)).sort();
  // train.jsonl, train-00000-of-00002.jsonl and train_a.json all hold the split "train".
  const ofSplit = names.filter(
    (name) => split === undefined || (name.startsWith(split) && /^[-._]/.test(name.slice(split.length))),
  );
  if (ofSplit.length > 0) return ofSplit.map((name) => path.join(folder, name));
  throw new UserError(
    names.length === 0
      ? `dataset ${folder}: the folder has no .jsonl, .json or .csv file`
      : `dataset ${folder}: no file of the split "${split}"; the folder has ${names.join(", ")}`,
  );
}
