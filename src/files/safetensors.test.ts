import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { UserError } from "../support/errors.js";
import { readHeader } from "./safetensors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "slimtune-safetensors-"));
});
afterAll(() => rm(folder, { recursive: true }));

let files = 0;
async function write(bytes: Uint8Array): Promise<string> {
  const path = join(folder, `${files++}.safetensors`);
  await writeFile(path, bytes);
  return path;
}

/** A file with this header text (or bytes), this claimed header length, and so many bytes of data. */
function build(header: string | Buffer, dataBytes = 0, claimed?: bigint): Buffer {
  const text = Buffer.from(header as string);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(claimed ?? BigInt(text.length));
  return Buffer.concat([prefix, text, Buffer.alloc(dataBytes, 7)]);
}

const F32 = (shape: string, offsets: string) => `{"dtype":"F32","shape":${shape},"data_offsets":${offsets}}`;

interface Hostile {
  title: string;
  bytes: Buffer;
  says: RegExp;
}

const HOSTILE: Hostile[] = [
  // the prefix
  { title: "empty file", bytes: Buffer.alloc(0), says: /has 0 bytes.*empty or truncated/ },
  { title: "seven bytes", bytes: Buffer.alloc(7), says: /has 7 bytes.*empty or truncated/ },
  { title: "header length above the limit", bytes: build("{}", 0, 100_000_001n), says: /claims 100000001 bytes/ },
  { title: "header length 2^64 - 1", bytes: build("{}", 0, 2n ** 64n - 1n), says: /claims 18446744073709551615 bytes/ },
  { title: "header length 2^63", bytes: build("{}", 0, 2n ** 63n), says: /claims 9223372036854775808 bytes/ },
  { title: "header cut off", bytes: build("{}", 0, 3n), says: /claims 3 bytes, but the file has only 10.*truncated/ },
  { title: "header length 0", bytes: build("", 4), says: /does not start with \{/ },
  {
    title: "Git LFS pointer",
    bytes: Buffer.from("version https://git-lfs.github.com/spec/v1\n"),
    says: /git lfs pull/,
  },
  { title: "zip archive", bytes: Buffer.from("PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaa"), says: /not a safetensors file/ },
  {
    title: "more tensors than there can be",
    bytes: build(`{${Array.from({ length: 500_000 }, (_, i) => `"${i}":${F32("[0]", "[0,0]")}`).join(",")}}`),
    says: /the header has more than 100000 entries/,
  },
  {
    title: "more metadata than there can be",
    bytes: build(`{"__metadata__":{${Array.from({ length: 500_000 }, (_, i) => `"${i}":""`).join(",")}}}`),
    says: /__metadata__ has more than 100000 entries/,
  },
  {
    title: "a shape of a million dimensions",
    bytes: build(`{"a":${F32(`[${Array(1e6).fill(1)}]`, "[0,4]")}}`, 4),
    says: /a list has more than 1000 numbers/,
  },
  // the text
  { title: "leading space", bytes: build(" {}"), says: /does not start with \{/ },
  { title: "byte order mark", bytes: build("\ufeff{}"), says: /does not start with \{/ },
  { title: "array", bytes: build("[]"), says: /does not start with \{/ },
  { title: "invalid UTF-8", bytes: build(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])), says: /not valid UTF-8/ },
  { title: "unclosed object", bytes: build("{"), says: /the end of the header/ },
  { title: "text after the object", bytes: build("{}{}"), says: /nothing more/ },
  { title: "NUL padding", bytes: build("{}\0\0"), says: /nothing more/ },
  { title: "trailing comma", bytes: build(`{"a":${F32("[1]", "[0,4]")},}`, 4), says: /a string should be/ },
  { title: "unquoted key", bytes: build("{a:1}"), says: /a string should be/ },
  { title: "unterminated string", bytes: build('{"a'), says: /never ends/ },
  { title: "string ending in an escape", bytes: build('{"a\\"'), says: /never ends/ },
  { title: "control character in a name", bytes: build('{"a\nb":1}'), says: /not valid JSON/ },
  { title: "lone surrogate in a name", bytes: build(`{"\\ud800":${F32("[1]", "[0,4]")}}`, 4), says: /Unicode/ },
  { title: "100,000 nested arrays", bytes: build(`{"a":${"[".repeat(100_000)}`), says: /"\{" should be/ },
  { title: "100,000 nested objects", bytes: build('{"a":'.repeat(100_000)), says: /unknown field "a"/ },
  // names
  {
    title: "duplicate tensor",
    bytes: build(`{"a":${F32("[1]", "[0,4]")},"a":${F32("[1]", "[4,8]")}}`, 8),
    says: /key "a" twice/,
  },
  {
    title: "duplicate tensor behind an escape",
    bytes: build(`{"a":${F32("[1]", "[0,4]")},"\\u0061":${F32("[1]", "[0,4]")}}`, 4),
    says: /key "a" twice/,
  },
  {
    title: "duplicate __proto__",
    bytes: build(`{"__proto__":${F32("[1]", "[0,4]")},"__proto__":${F32("[1]", "[0,4]")}}`, 4),
    says: /key "__proto__" twice/,
  },
  {
    title: "duplicate metadata key",
    bytes: build('{"__metadata__":{"k":"1","k":"2"}}'),
    says: /__metadata__ has the key "k" twice/,
  },
  { title: "two metadata objects", bytes: build('{"__metadata__":{},"__metadata__":{}}'), says: /twice/ },
  { title: "metadata that is no text", bytes: build('{"__metadata__":{"k":1}}'), says: /a string should be/ },
  { title: "metadata null", bytes: build('{"__metadata__":null}'), says: /"\{" should be/ },
  { title: "nested metadata", bytes: build('{"__metadata__":{"k":{}}}'), says: /a string should be/ },
  {
    title: "terminal escape in a name",
    bytes: build('{"\\u001b[2J\u009b":{}}'),
    says: /tensor "\\u001b\[2J\\u\{9b\}" has no dtype/,
  },
  // fields
  { title: "tensor null", bytes: build('{"a":null}'), says: /"\{" should be/ },
  { title: "no dtype", bytes: build('{"a":{"shape":[1],"data_offsets":[0,4]}}', 4), says: /tensor "a" has no dtype/ },
  { title: "no shape", bytes: build('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4), says: /tensor "a" has no shape/ },
  { title: "no offsets", bytes: build('{"a":{"dtype":"F32","shape":[1]}}', 4), says: /tensor "a" has no data_offsets/ },
  {
    title: "duplicate field",
    bytes: build('{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', 4),
    says: /tensor "a" has the key "dtype" twice/,
  },
  {
    title: "unknown field",
    bytes: build('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]}}', 4),
    says: /tensor "a" has an unknown field "strides"/,
  },
  {
    title: "unknown dtype",
    bytes: build('{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}', 4),
    says: /tensor "a" has the dtype "F8_E4M3", which is not supported \(supported: .*BF16/,
  },
  {
    title: "dtype that names a property of objects",
    bytes: build('{"a":{"dtype":"constructor","shape":[4],"data_offsets":[0,4]}}', 4),
    says: /dtype "constructor", which is not supported/,
  },
  {
    title: "dtype in lower case",
    bytes: build('{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}', 4),
    says: /dtype "f32", which is not supported/,
  },
  { title: "dtype that is a number", bytes: build('{"a":{"dtype":1}}'), says: /a string should be/ },
  // numbers
  { title: "negative dimension", bytes: build(`{"a":${F32("[-1]", "[0,4]")}}`, 4), says: /whole number/ },
  { title: "negative zero", bytes: build(`{"a":${F32("[-0]", "[0,0]")}}`), says: /whole number/ },
  { title: "fractional dimension", bytes: build(`{"a":${F32("[1.0]", "[0,4]")}}`, 4), says: /whole number/ },
  { title: "exponent", bytes: build(`{"a":${F32("[1e0]", "[0,4]")}}`, 4), says: /whole number/ },
  { title: "leading zero", bytes: build(`{"a":${F32("[01]", "[0,4]")}}`, 4), says: /whole number/ },
  { title: "dimension 2^53", bytes: build(`{"a":${F32("[9007199254740992]", "[0,4]")}}`, 4), says: /whole number/ },
  { title: "dimension 2^64 + 1", bytes: build(`{"a":${F32("[18446744073709551617]", "[0,4]")}}`, 4), says: /whole/ },
  { title: "dimension as text", bytes: build(`{"a":${F32('["1"]', "[0,4]")}}`, 4), says: /whole number/ },
  { title: "shape that is a number", bytes: build(`{"a":${F32("1", "[0,4]")}}`, 4), says: /"\[" should be/ },
  {
    title: "product of dimensions overflows",
    bytes: build(`{"a":${F32("[4294967296,4294967296]", "[0,0]")}}`),
    says: /tensor "a" has an impossible shape \[4294967296, 4294967296\]/,
  },
  {
    title: "bytes overflow",
    bytes: build(`{"a":${F32("[9007199254740991]", "[0,4]")}}`, 4),
    says: /tensor "a" has an impossible shape/,
  },
  {
    title: "overflow before a zero",
    bytes: build(`{"a":${F32("[9007199254740991,9007199254740991,0]", "[0,0]")}}`),
    says: /impossible shape/,
  },
  {
    title: "65 dimensions",
    bytes: build(`{"a":${F32(`[${Array(65).fill(1)}]`, "[0,4]")}}`, 4),
    says: /tensor "a" has 65 dimensions; the limit is 64/,
  },
  // offsets
  { title: "one offset", bytes: build(`{"a":${F32("[1]", "[0]")}}`, 4), says: /1 data_offsets instead of 2/ },
  { title: "three offsets", bytes: build(`{"a":${F32("[1]", "[0,4,4]")}}`, 4), says: /3 data_offsets instead of 2/ },
  { title: "reversed offsets", bytes: build(`{"a":${F32("[1]", "[4,0]")}}`, 4), says: /\[4, 0\], but F32 .* 4 bytes/ },
  { title: "range too short", bytes: build(`{"a":${F32("[2]", "[0,4]")}}`, 4), says: /shape \[2\] takes 8 bytes/ },
  { title: "range too long", bytes: build(`{"a":${F32("[1]", "[0,8]")}}`, 8), says: /shape \[1\] takes 4 bytes/ },
  { title: "gap at the start", bytes: build(`{"a":${F32("[1]", "[4,8]")}}`, 8), says: /"a" leaves a gap before it/ },
  {
    title: "gap between tensors",
    bytes: build(`{"a":${F32("[1]", "[0,4]")},"b":${F32("[1]", "[8,12]")}}`, 12),
    says: /"b" leaves a gap before it/,
  },
  {
    title: "partial overlap",
    bytes: build(`{"a":${F32("[2]", "[0,8]")},"b":${F32("[2]", "[4,12]")}}`, 12),
    says: /"b" overlaps the tensor before it/,
  },
  {
    title: "two tensors on the same bytes",
    bytes: build(`{"a":${F32("[1]", "[0,4]")},"b":${F32("[1]", "[0,4]")}}`, 4),
    says: /overlaps the tensor before it/,
  },
  {
    title: "empty tensor inside another",
    bytes: build(`{"a":${F32("[2]", "[0,8]")},"b":${F32("[0]", "[4,4]")}}`, 8),
    says: /"b" overlaps the tensor before it/,
  },
  {
    title: "bytes after the last tensor",
    bytes: build(`{"a":${F32("[1]", "[0,4]")}}`, 9),
    says: /5 bytes after its last/,
  },
  { title: "data without any tensor", bytes: build("{}", 3), says: /3 bytes after its last tensor/ },
  {
    title: "data cut off",
    bytes: build(`{"a":${F32("[1]", "[0,4]")},"b":${F32("[100]", "[4,404]")}}`, 403),
    says: /tensor "b" ends at byte \d+, but the file has only \d+ bytes: the file is truncated/,
  },
  {
    title: "range far beyond the file",
    bytes: build(`{"a":{"dtype":"U8","shape":[9007199254740991],"data_offsets":[0,9007199254740991]}}`, 4),
    says: /truncated/,
  },
];

describe("readHeader refuses", () => {
  test.each(HOSTILE)("$title", async ({ bytes, says }) => {
    const path = await write(bytes);
    const error = await readHeader(path).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UserError);
    const { message } = error as UserError;
    expect(message).toContain(path);
    expect(message).toMatch(says);
    expect(message.length).toBeLessThan(600);
  });

  test("a missing file and a folder", async () => {
    await expect(readHeader(join(folder, "none.safetensors"))).rejects.toThrow(/none\.safetensors.*ENOENT/);
    await expect(readHeader(folder)).rejects.toThrow(/not a file/);
  });

  test("every truncation of a valid file", async () => {
    const whole = build(`{"a":${F32("[2]", "[0,8]")},"b":${F32("[]", "[8,12]")}}`, 12);
    expect((await readHeader(await write(whole))).tensors.size).toBe(2);
    for (let length = 0; length < whole.length; length++) {
      const path = await write(whole.subarray(0, length));
      await expect(readHeader(path), `${length} bytes`).rejects.toThrow(UserError);
    }
  });

  test("every single-byte change of a header, or reads something consistent with the file", async () => {
    const whole = build(`{"a":${F32("[2]", "[0,8]")}}`, 8);
    let refused = 0;
    for (let at = 0; at < whole.length - 8; at++) {
      for (const flip of [0x01, 0x10, 0x80]) {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= flip;
        const result = await readHeader(await write(bytes)).catch((e: unknown) => e);
        if (result instanceof UserError) refused++;
        else
          expect([...(result as Awaited<ReturnType<typeof readHeader>>).tensors.values()][0]!.end).toBe(whole.length);
      }
    }
    expect(refused).toBeGreaterThan(150);
  });
});

describe("readHeader reads", () => {
  test("names, dtypes, shapes, absolute offsets and metadata, in the file's order", async () => {
    const header =
      `{"__metadata__":{"format":"pt","__proto__":"x"},"2":${F32("[2,3]", "[0,24]")},` +
      '"1":{"data_offsets":[24,26],"shape":[],"dtype":"BF16"},' +
      '"__proto__":{"dtype":"BOOL","shape":[1,1],"data_offsets":[26,27]}}';
    const path = await write(build(header, 27));
    const dataBegin = 8 + header.length;
    const read = await readHeader(path);
    expect(read.path).toBe(path);
    expect(read.dataBegin).toBe(dataBegin);
    expect([...read.metadata]).toEqual([
      ["format", "pt"],
      ["__proto__", "x"],
    ]);
    expect([...read.tensors]).toEqual([
      ["2", { dtype: "F32", shape: [2, 3], begin: dataBegin, end: dataBegin + 24 }],
      ["1", { dtype: "BF16", shape: [], begin: dataBegin + 24, end: dataBegin + 26 }],
      ["__proto__", { dtype: "BOOL", shape: [1, 1], begin: dataBegin + 26, end: dataBegin + 27 }],
    ]);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  test("white space, padding, empty tensors in any place, odd names, and a file without tensors", async () => {
    const spaced = `{ "a" :\n{"dtype" : "F32", "shape" : [ 0 , 5 ] , "data_offsets":[4,4]},\t"b\\"\\\\":${F32("[1]", "[0,4]")} }\r\n   `;
    expect([...(await readHeader(await write(build(spaced, 4)))).tensors.keys()]).toEqual(["a", 'b"\\']);
    expect((await readHeader(await write(build("{}")))).tensors.size).toBe(0);
    const odd = `{"":${F32("[1]", "[0,4]")},"../../x":${F32("[1]", "[4,8]")},"a\\u0000é😀":${F32("[1]", "[8,12]")}}`;
    expect([...(await readHeader(await write(build(odd, 12)))).tensors.keys()]).toEqual(["", "../../x", "a\0é😀"]);
  });

  test("64 dimensions and every dtype", async () => {
    const sizes = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, I16: 2, I8: 1, U8: 1, BOOL: 1 };
    let offset = 0;
    const members = Object.entries(sizes).map(([dtype, bytes]) => {
      const from = offset;
      offset += bytes;
      return `"${dtype}":{"dtype":"${dtype}","shape":[${Array(64).fill(1)}],"data_offsets":[${from},${offset}]}`;
    });
    const { tensors } = await readHeader(await write(build(`{${members}}`, offset)));
    expect([...tensors.values()].map(({ dtype }) => dtype)).toEqual(Object.keys(sizes));
    expect(tensors.get("F32")!.shape).toHaveLength(64);
  });

  test("a header of 100,000 tensors in linear time", async () => {
    const members = Array.from({ length: 100_000 }, (_, i) => `"layers.${i}":${F32("[1]", `[${4 * i},${4 * i + 4}]`)}`);
    const start = performance.now();
    const { tensors } = await readHeader(await write(build(`{${members}}`, 400_000)));
    expect(tensors.size).toBe(100_000);
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});
