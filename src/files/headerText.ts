/**
 * The JSON text of a safetensors header, read by its grammar and nothing more:
 * `{"__metadata__": {"k": "v"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}`.
 * JSON.parse is not used for the whole text because it silently drops duplicate keys and rounds large integers.
 * There is no recursion, so no nesting can exhaust the stack, and keys go into Maps, so no name touches a prototype.
 */
import { quoteName } from "../support/plainText.js";

/** One tensor's entry as written: unchecked dtype name, dimensions, and offsets relative to the data. */
export interface RawTensor {
  dtype: string;
  shape: number[];
  offsets: [number, number];
}

export interface RawHeader {
  metadata: Map<string, string>;
  tensors: Map<string, RawTensor>;
}

/** Thrown with the reason alone; the reader adds the file's name. */
export class HeaderError extends Error {}

/** Tensors of one file: the largest models have fewer in all their files. */
const MAX_MEMBERS = 100_000;
/** Numbers of a list, long after a shape has become impossible. */
const MAX_NUMBERS = 1000;

const INTEGER = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;

class Cursor {
  readonly text: string;
  position = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** The next character that is not JSON white space; "" at the end. */
  peek(): string {
    let character = this.text.charAt(this.position);
    while (character === " " || character === "\n" || character === "\r" || character === "\t") {
      character = this.text.charAt(++this.position);
    }
    return character;
  }

  fail(expected: string): never {
    const found = this.peek();
    const what = found === "" ? "the end of the header" : quoteName(found);
    throw new HeaderError(`the header has ${what} where ${expected} should be (character ${this.position})`);
  }

  expect(character: string): void {
    if (this.peek() !== character) this.fail(quoteName(character));
    this.position++;
  }

  /** Consumes `character` if it comes next. */
  take(character: string): boolean {
    if (this.peek() !== character) return false;
    this.position++;
    return true;
  }

  string(): string {
    if (this.peek() !== '"') this.fail("a string");
    const start = this.position;
    let end = start;
    let escaped = true;
    while (escaped) {
      end = this.text.indexOf('"', end + 1);
      if (end < 0) throw new HeaderError(`a string in the header never ends (from character ${start})`);
      let backslashes = 0;
      while (this.text.charAt(end - 1 - backslashes) === "\\") backslashes++;
      escaped = backslashes % 2 === 1;
    }
    this.position = end + 1;
    let value: string;
    try {
      value = JSON.parse(this.text.slice(start, end + 1)) as string;
    } catch {
      throw new HeaderError(`a string in the header is not valid JSON (from character ${start})`);
    }
    if (/\p{Cs}/u.test(value))
      throw new HeaderError(`a string in the header is not valid Unicode (character ${start})`);
    return value;
  }

  /** A non-negative integer that a double holds exactly. */
  integer(): number {
    this.peek();
    INTEGER.lastIndex = this.position;
    const match = INTEGER.exec(this.text);
    const value = Number(match?.[0] ?? Number.NaN);
    if (match === null || !Number.isSafeInteger(value)) this.fail("a whole number from 0 to 2^53 - 1");
    this.position += match[0].length;
    return value;
  }

  integers(): number[] {
    const values: number[] = [];
    this.expect("[");
    if (this.take("]")) return values;
    do {
      if (values.length === MAX_NUMBERS) throw new HeaderError(`a list has more than ${MAX_NUMBERS} numbers`);
      values.push(this.integer());
    } while (this.take(","));
    this.expect("]");
    return values;
  }

  /** Reads an object; `member` is called after each key and must consume its value. Duplicate keys are refused. */
  object(what: () => string, member: (key: string) => void): void {
    const seen = new Set<string>();
    this.expect("{");
    if (this.take("}")) return;
    do {
      const key = this.string();
      if (seen.has(key)) throw new HeaderError(`${what()} has the key ${quoteName(key)} twice`);
      if (seen.size === MAX_MEMBERS) throw new HeaderError(`${what()} has more than ${MAX_MEMBERS} entries`);
      seen.add(key);
      this.expect(":");
      member(key);
    } while (this.take(","));
    this.expect("}");
  }
}

function readTensor(cursor: Cursor, name: string): RawTensor {
  const what = () => `tensor ${quoteName(name)}`; // for messages alone: there may be a hundred thousand tensors
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  cursor.object(what, (key) => {
    if (key === "dtype") dtype = cursor.string();
    else if (key === "shape") shape = cursor.integers();
    else if (key === "data_offsets") offsets = cursor.integers();
    else throw new HeaderError(`${what()} has an unknown field ${quoteName(key)}`);
  });
  if (dtype === undefined) throw new HeaderError(`${what()} has no dtype`);
  if (shape === undefined) throw new HeaderError(`${what()} has no shape`);
  if (offsets === undefined) throw new HeaderError(`${what()} has no data_offsets`);
  const [begin, end, ...more] = offsets;
  if (begin === undefined || end === undefined || more.length > 0) {
    throw new HeaderError(`${what()} has ${offsets.length} data_offsets instead of 2`);
  }
  return { dtype, shape, offsets: [begin, end] };
}

/** Parses the text of a header. Throws HeaderError when it is not exactly the grammar above. */
export function parseHeaderText(text: string): RawHeader {
  const header: RawHeader = { metadata: new Map(), tensors: new Map() };
  const cursor = new Cursor(text);
  cursor.object(
    () => "the header",
    (name) => {
      if (name === "__metadata__") {
        cursor.object(
          () => "__metadata__",
          (key) => header.metadata.set(key, cursor.string()),
        );
      } else {
        header.tensors.set(name, readTensor(cursor, name));
      }
    },
  );
  if (cursor.peek() !== "") cursor.fail("nothing more");
  return header;
}
