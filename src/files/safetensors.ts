/** The header of a safetensors file, read and checked without touching the data. */
import type { FileHandle } from "node:fs/promises";
import { UserError } from "../support/errors.js";
import { quoteName } from "../support/plainText.js";
import { openRegularFile } from "../support/regularFile.js";
import { elementCount } from "../support/shape.js";
import { HeaderError, parseHeaderText, type RawTensor } from "./headerText.js";

/** Bytes per element, in the order in which the official writer lays tensors out (widest first). */
export const DTYPE_BYTES = { I64: 8, F64: 8, F32: 4, I32: 4, BF16: 2, F16: 2, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const;

export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

export interface TensorInfo {
  dtype: SafetensorsDtype;
  shape: number[];
  /** Absolute byte offset in the file; a multiple of the element size only if the writer aligned it. */
  begin: number;
  /** Absolute byte offset one past the last byte. */
  end: number;
}

export interface SafetensorsHeader {
  path: string;
  metadata: Map<string, string>;
  tensors: Map<string, TensorInfo>;
  /** Absolute byte offset at which the data starts. */
  dataBegin: number;
}

const LENGTH_BYTES = 8; // little-endian u64 that gives the header's length
const MAX_HEADER_BYTES = 100_000_000; // the limit of the official reader
const MAX_RANK = 64; // LibTorch's own limit

function checkTensor(name: string, raw: RawTensor, dataBegin: number): TensorInfo {
  const what = () => `tensor ${quoteName(name)}`;
  if (!Object.hasOwn(DTYPE_BYTES, raw.dtype)) {
    const known = Object.keys(DTYPE_BYTES).join(", ");
    throw new HeaderError(
      `${what()} has the dtype ${quoteName(raw.dtype)}, which is not supported (supported: ${known})`,
    );
  }
  const dtype = raw.dtype as SafetensorsDtype;
  if (raw.shape.length > MAX_RANK) {
    throw new HeaderError(`${what()} has ${raw.shape.length} dimensions; the limit is ${MAX_RANK}`);
  }
  const bytes = elementCount(raw.shape) * DTYPE_BYTES[dtype];
  if (!Number.isSafeInteger(bytes))
    throw new HeaderError(`${what()} has an impossible shape [${raw.shape.join(", ")}]`);
  const [begin, end] = raw.offsets;
  if (end - begin !== bytes) {
    throw new HeaderError(
      `${what()} has data_offsets [${begin}, ${end}], but ${dtype} with shape [${raw.shape.join(", ")}] takes ${bytes} bytes`,
    );
  }
  return { dtype, shape: raw.shape, begin: dataBegin + begin, end: dataBegin + end };
}

/** The tensors must follow one another from the first byte of the data to the last, without gap or overlap. */
function checkLayout(tensors: Map<string, TensorInfo>, dataBegin: number, fileSize: number): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  const last = ordered.at(-1);
  if (last !== undefined && last[1].end > fileSize) {
    throw new HeaderError(
      `tensor ${quoteName(last[0])} ends at byte ${last[1].end}, but the file has only ${fileSize} bytes: ` +
        "the file is truncated (an interrupted download or copy)",
    );
  }
  let expected = dataBegin;
  for (const [name, info] of ordered) {
    if (info.begin !== expected) {
      const kind = info.begin < expected ? "overlaps the tensor before it" : "leaves a gap before it";
      throw new HeaderError(`tensor ${quoteName(name)} ${kind} (starts at byte ${info.begin}, not ${expected})`);
    }
    expected = info.end;
  }
  if (expected !== fileSize) {
    throw new HeaderError(`the file has ${fileSize - expected} bytes after its last tensor that nothing describes`);
  }
}

async function readExactly(file: FileHandle, length: number, position: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, position + filled);
    if (bytesRead === 0) throw new HeaderError("the file became shorter while it was read");
    filled += bytesRead;
  }
  return bytes;
}

async function parse(file: FileHandle, path: string): Promise<SafetensorsHeader> {
  const { size } = await file.stat();
  if (size < LENGTH_BYTES) {
    throw new HeaderError(`the file has ${size} bytes, too few for a safetensors header: it is empty or truncated`);
  }
  const prefix = await readExactly(file, LENGTH_BYTES, 0);
  if (prefix.toString("latin1") === "version ") {
    throw new HeaderError("the file is a Git LFS pointer, not the weights; run `git lfs pull` in its folder");
  }
  const declared = prefix.readBigUInt64LE();
  if (declared > MAX_HEADER_BYTES) {
    throw new HeaderError(`the header claims ${declared} bytes (limit ${MAX_HEADER_BYTES}): not a safetensors file`);
  }
  const length = Number(declared);
  if (length > size - LENGTH_BYTES) {
    throw new HeaderError(`the header claims ${length} bytes, but the file has only ${size}: the file is truncated`);
  }
  const bytes = await readExactly(file, length, LENGTH_BYTES);
  if (bytes[0] !== 0x7b) throw new HeaderError("the header does not start with {: not a safetensors file");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new HeaderError("the header is not valid UTF-8");
  }
  const raw = parseHeaderText(text);
  const dataBegin = LENGTH_BYTES + length;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, tensor] of raw.tensors) tensors.set(name, checkTensor(name, tensor, dataBegin));
  checkLayout(tensors, dataBegin, size);
  return { path, metadata: raw.metadata, tensors, dataBegin };
}

/**
 * Reads and checks the header of a safetensors file; the data is not read. Stricter than the official reader: duplicate
 * keys, unknown fields and more than 64 dimensions are refused too.
 * @throws UserError naming the file, the tensor and what is wrong
 */
export async function readHeader(path: string): Promise<SafetensorsHeader> {
  try {
    await using file = await openRegularFile(path);
    return await parse(file, path);
  } catch (error) {
    // Anything else than a bad header or a failed system call is told already, or a bug of ours that keeps its stack.
    if (!(error instanceof HeaderError) && !(error instanceof Error && "syscall" in error)) throw error;
    throw new UserError(`Cannot read the weights in ${path}: ${error.message}.`, { cause: error });
  }
}
