/** The rows of one file: JSON lines, JSON, CSV, each also compressed by gzip. */
import { pipeline } from "node:stream";
import { promisify } from "node:util";
import { createGunzip, gunzip } from "node:zlib";
import { UserError } from "../support/errors.js";
import { openRegularFile, readRegularFile } from "../support/regularFile.js";
import { CsvParser } from "./csv.js";

type Record_ = Record<string, unknown>;

export interface RawRow {
  fields: Record_;
  /** For messages: `file:line`, `file[index]`, or where it stands in a program's rows. */
  source: string;
}

const READABLE = /\.(jsonl|ndjson|json|csv)(\.gz)?$/i;
// A string of V8 holds 2^29 - 24 characters.
const MAX_JSON_BYTES = 2 ** 29 - 24;

/** Whether a file's name says that it can be read. */
export const isReadable = (name: string) => READABLE.test(name);

/**
 * The rows of a file, some at a time, in their order.
 * @throws UserError for a file of another kind, and for what is broken in it, with its line
 */
export async function* readRows(file: string, signal?: AbortSignal): AsyncGenerator<RawRow[]> {
  const kind = READABLE.exec(file)?.[1]?.toLowerCase();
  if (kind === undefined) {
    throw new UserError(
      `dataset ${file}: .jsonl (one JSON object per line), .json and .csv files can be read, also with .gz behind it. ` +
        "Convert it, or rename it when that is what it holds.",
    );
  }
  try {
    if (kind === "csv") yield* readCsv(file, signal);
    else if (kind === "json") yield* readJson(file, signal);
    else yield* readJsonLines(file, signal);
  } catch (error) {
    if (error instanceof UserError || signal?.aborted) throw error;
    throw new UserError(`dataset ${file}: cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

const isCompressed = (file: string) => /\.gz$/i.test(file);

async function* readBytes(file: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const opened = await openRegularFile(file);
  const stream = opened.createReadStream({ highWaterMark: 1 << 19, signal });
  yield* isCompressed(file) ? pipeline(stream, createGunzip({ chunkSize: 1 << 18 }), () => {}) : stream;
}

/** One JSON object per line. Lines end at LF only: JSON text may hold the other line separators of Unicode. */
async function* readJsonLines(file: string, signal?: AbortSignal): AsyncGenerator<RawRow[]> {
  let rows: RawRow[] = [];
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
  for await (const chunk of readBytes(file, signal)) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      endLine(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start < chunk.length) grow(chunk.subarray(start));
    yield rows;
    rows = [];
  }
  if (pending.length > 0) endLine(Buffer.alloc(0));
  yield rows;
}

async function* readCsv(file: string, signal?: AbortSignal): AsyncGenerator<RawRow[]> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const parser = new CsvParser(file);
  const withSource = (rows: ReturnType<CsvParser["push"]>) =>
    rows.map(({ fields, line }) => ({ fields, source: `${file}:${line}` }));
  const text = (bytes?: Buffer) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw notUtf8(file);
    }
  };
  for await (const chunk of readBytes(file, signal)) yield withSource(parser.push(text(chunk)));
  yield withSource([...parser.push(text()), ...parser.end()]);
}

const utf8 = new TextDecoder("utf-8", { fatal: true }); // drops a byte order mark

function decode(bytes: Buffer, source: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw notUtf8(source);
  }
}

const notUtf8 = (source: string) => new UserError(`${source}: not valid UTF-8. Save the file as UTF-8.`);

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
async function* readJson(file: string, signal?: AbortSignal): AsyncGenerator<RawRow[]> {
  const bytes = await readRegularFile(file, MAX_JSON_BYTES, {
    signal,
    advice: "Save it as .jsonl, one object per line.",
  });
  const text = decode(
    isCompressed(file) ? await promisify(gunzip)(bytes, { maxOutputLength: MAX_JSON_BYTES }) : bytes,
    file,
  );
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (text.trim() === "") return;
    // One object per line is common under this name too, and then the line of the mistake is known.
    if (/^\s*\{[^\n]*\}\s*\n/.test(text)) return yield* readJsonLines(file, signal);
    const { message } = error as Error;
    const line = lineAt(text, positionOf(message, text));
    throw new UserError(`${file}:${line}: not valid JSON: ${message}`);
  }
  const list = findList(value, file);
  if (list === undefined) return yield [{ fields: asObject(value, file), source: file }];
  yield list.items.map((item, index) => {
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

/** @throws UserError for what is no object */
export function asObject(value: unknown, source: string): Record_ {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record_;
  const found = Array.isArray(value) ? "a list" : value == null ? String(value) : `a ${typeof value}`;
  throw new UserError(`${source}: a row must be a JSON object like {"text": "..."}, but this is ${found}`);
}
