import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../support/errors.js";
import { isHubId } from "../support/hubId.js";
import { openRegularFile, readRegularFile } from "../support/regularFile.js";
import { type DatasetEntry, type DatasetSpec, datasetEntries } from "./config.js";
import { detectFormat, listKeys } from "./format.js";
import { globFiles, isGlob } from "./glob.js";
import type { Row } from "./row.js";

export interface LoadOptions {
  /** Resolves the id of a hub dataset to local files. Without it, only local paths can be read. */
  resolveDatasetPath?: (id: string, options: { name?: string; split?: string }) => Promise<string[]>;
  /** Column of plain-text rows (the training argument of that name). Default: "text". */
  dataset_text_field?: string;
  signal?: AbortSignal;
}

type Record_ = Record<string, unknown>;
interface RawRow {
  fields: Record_;
  source: string;
}

const READABLE = /\.(jsonl|ndjson|json)$/i;
// A string of V8 holds 2^29 - 24 characters.
const MAX_JSON_BYTES = 2 ** 29 - 24;

/**
 * Reads the rows of every dataset of a spec, in the order given.
 * @throws UserError for a missing or empty file, a broken line (with file, line number and reason), rows that are no
 * objects, a mapped column that a row lacks, and columns that fit no format.
 */
export async function loadRows(spec: DatasetSpec, options: LoadOptions = {}): Promise<Row[]> {
  const rows: Row[] = [];
  for (const entry of datasetEntries(spec)) {
    const raw: RawRow[] = [];
    const files = await findFiles(entry, options);
    for (const file of files) {
      for (const row of await readRows(file, options.signal)) raw.push(row);
    }
    const first = raw[0];
    if (first === undefined) {
      throw new UserError(
        `dataset ${entry.path} is empty: ${files.join(", ")} has no rows. Give a file with examples.`,
      );
    }
    const mapped = entry.columns === undefined ? raw : raw.map((row) => mapColumns(row, entry.columns!));
    const format =
      entry.format === "auto" ? detectFormat(mapped[0]!, options.dataset_text_field ?? "text") : entry.format;
    for (const { fields, source } of mapped) rows.push({ fields, source, format });
  }
  return rows;
}

/** Only the mapped columns, and what may go with a conversation: columns that the config does not name are not used. */
function mapColumns({ fields, source }: RawRow, columns: NonNullable<DatasetEntry["columns"]>): RawRow {
  const mapped: Record_ = {};
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

async function findFiles(entry: DatasetEntry, options: LoadOptions): Promise<string[]> {
  const { path: given, name, split } = entry;
  const info = await stat(given).catch(() => undefined);
  if (info !== undefined && name !== undefined) {
    throw new UserError(
      `dataset ${given}: \`name: ${name}\` is a configuration of a hub dataset, but this path is here. Remove name, or ` +
        "give the files of that configuration as path.",
    );
  }
  if (info?.isDirectory()) return filesOfFolder(given, split);
  if (info === undefined && isHubId(given) && !READABLE.test(given) && options.resolveDatasetPath) {
    const files = await options.resolveDatasetPath(given, { name, split }).catch((error: unknown) => {
      if (!(error instanceof UserError)) throw error;
      throw new UserError(`dataset ${given}: no such file or folder here, and on the hub: ${error.message}`, {
        cause: error,
      });
    });
    if (files.length === 0) throw new UserError(`dataset ${given}: the hub dataset has no file that can be read`);
    return files;
  }
  if (info !== undefined && split !== undefined) {
    throw new UserError(
      `dataset ${given}: \`split: ${split}\` chooses among the files of a hub dataset or of a folder; this is one file. ` +
        "Remove split, or give the folder as path.",
    );
  }
  if (info !== undefined) return [given];
  if (!isGlob(given))
    throw new UserError(`dataset ${given}: no such file or folder. Check the path (from ${process.cwd()}).`);
  if (name !== undefined || split !== undefined) {
    throw new UserError(
      `dataset ${given}: name and split do not go with a pattern, which itself chooses. Remove them.`,
    );
  }
  const files = await globFiles(given);
  if (files.length === 0) throw new UserError(`dataset ${given}: no file matches this pattern (from ${process.cwd()})`);
  return files;
}

async function filesOfFolder(folder: string, split: string | undefined): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => READABLE.test(name)).sort();
  // train.jsonl, train-00000-of-00002.jsonl and train_a.json all hold the split "train".
  const ofSplit = names.filter(
    (name) => split === undefined || (name.startsWith(split) && /^[-._]/.test(name.slice(split.length))),
  );
  if (ofSplit.length > 0) return ofSplit.map((name) => path.join(folder, name));
  throw new UserError(
    names.length === 0
      ? `dataset ${folder}: the folder has no .jsonl or .json file`
      : `dataset ${folder}: no file of the split "${split}"; the folder has ${names.join(", ")}`,
  );
}

async function readRows(file: string, signal?: AbortSignal): Promise<RawRow[]> {
  if (!READABLE.test(file)) {
    throw new UserError(
      `dataset ${file}: only .jsonl (one JSON object per line) and .json files can be read. Convert it, ` +
        "or rename it when that is what it holds.",
    );
  }
  try {
    return /\.json$/i.test(file) ? await readJson(file, signal) : await readJsonLines(file, signal);
  } catch (error) {
    if (error instanceof UserError || signal?.aborted) throw error;
    throw new UserError(`dataset ${file}: cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** One JSON object per line. Lines end at LF only: JSON text may hold the other line separators of Unicode. */
async function readJsonLines(file: string, signal?: AbortSignal): Promise<RawRow[]> {
  const rows: RawRow[] = [];
  let number = 0;
  let pending: Buffer[] = []; // a line that the last chunk did not end
  let length = 0; // of it
  const grow = (part: Buffer) => {
    pending.push(part);
    length += part.length;
    if (length <= MAX_JSON_BYTES) return;
    throw new UserError(
      `${file}:${number + 1}: the line has more than ${MAX_JSON_BYTES} bytes, too many for one row. Is there one object per line?`,
    );
  };
  const endLine = (part: Buffer) => {
    if (pending.length > 0) grow(part);
    number++;
    const bytes = pending.length === 0 ? part : Buffer.concat(pending);
    [pending, length] = [[], 0];
    const row = parseLine(bytes, `${file}:${number}`);
    if (row !== undefined) rows.push(row);
  };
  const opened = await openRegularFile(file);
  for await (const chunk of opened.createReadStream({ highWaterMark: 1 << 19, signal }) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      endLine(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start < chunk.length) grow(chunk.subarray(start));
  }
  if (pending.length > 0) endLine(Buffer.alloc(0));
  return rows;
}

const utf8 = new TextDecoder("utf-8", { fatal: true }); // drops a byte order mark

function decode(bytes: Buffer, source: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new UserError(`${source}: not valid UTF-8. Save the file as UTF-8.`);
  }
}

function parseLine(bytes: Buffer, source: string): RawRow | undefined {
  const text = decode(bytes, source).trim();
  if (text === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${source}: not valid JSON: ${(error as Error).message}`);
  }
  return { fields: asObject(value, source), source };
}

/** An array of objects, an object that holds one such array, or JSON lines under the name .json. */
async function readJson(file: string, signal?: AbortSignal): Promise<RawRow[]> {
  const text = decode(
    await readRegularFile(file, MAX_JSON_BYTES, { signal, advice: "Save it as .jsonl, one object per line." }),
    file,
  );
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (text.trim() === "") return [];
    // One object per line is common under this name too, and then the line of the mistake is known.
    if (/^\s*\{[^\n]*\}\s*\n/.test(text)) return readJsonLines(file, signal);
    const { message } = error as Error;
    const line = lineAt(text, positionOf(message, text));
    throw new UserError(`${file}:${line}: not valid JSON: ${message}`);
  }
  const list = findList(value, file);
  if (list === undefined) return [{ fields: asObject(value, file), source: file }];
  return list.items.map((item, index) => {
    const source = `${file}${list.name}[${index}]`;
    return { fields: asObject(item, source), source };
  });
}

/** Where V8 says that JSON goes wrong: a position, or the text around it with 10 characters on each side. */
function positionOf(message: string, text: string): number {
  const position = /at position (\d+)/.exec(message)?.[1];
  if (position !== undefined) return Number(position);
  const [, cut, around] = /, (\.\.\.)?"([\s\S]+)"(?:\.\.\.)? is not valid JSON$/.exec(message) ?? [];
  const start = around === undefined ? -1 : text.indexOf(around);
  return start < 0 ? text.trimEnd().length : start + (cut === undefined ? 0 : 10);
}

const lineAt = (text: string, position: number) => text.slice(0, position).split("\n").length;

const ROW_LISTS = ["messages", "conversations", "prompt", "completion", "tools"];

function findList(value: unknown, file: string): { items: unknown[]; name: string } | undefined {
  if (Array.isArray(value)) return { items: value, name: "" };
  const arrays = Object.entries(asObject(value, file)).filter(([, item]) => Array.isArray(item));
  // {"messages": [...]} is one row, not a list of rows.
  if (arrays.length === 0 || arrays.some(([name]) => ROW_LISTS.includes(name))) return undefined;
  const [only, ...others] = arrays as [string, unknown[]][];
  if (others.length > 0) {
    throw new UserError(
      `dataset ${file}: the object holds several lists (${arrays.map(([name]) => name).join(", ")}); ` +
        "which one are the rows cannot be told. Keep one, or save the rows as .jsonl.",
    );
  }
  return { items: only![1], name: `.${only![0]}` };
}

function asObject(value: unknown, source: string): Record_ {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record_;
  const found = Array.isArray(value) ? "a list" : value === null ? "null" : `a ${typeof value}`;
  throw new UserError(`${source}: a row must be a JSON object like {"text": "..."}, but this is ${found}`);
}
