/**
 * Writes safetensors files as the official writer lays them out, one tensor in memory at a time. A file appears under
 * its name only when it is whole and on the disk; until then the file that was there before stays. Renaming over a
 * file that is still memory-mapped is safe: the mapping keeps the old bytes.
 */
import { randomBytes } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "../support/errors.js";
import { elementCount } from "../support/shape.js";
import { DTYPE_BYTES, type SafetensorsDtype } from "./safetensors.js";

export interface TensorEntry {
  name: string;
  dtype: SafetensorsDtype;
  shape: readonly number[];
  /** The elements as little-endian bytes in row-major order; called once, when it is this tensor's turn. */
  data: () => Promise<Uint8Array>;
}

const WRITE_BYTES = 64 * 1024 * 1024; // per call, well below what one write may take on any platform
const DTYPE_ORDER = Object.keys(DTYPE_BYTES);

function byteLength({ name, dtype, shape }: TensorEntry): number {
  const count = elementCount(shape);
  if (Number.isNaN(count)) throw new Error(`tensor ${name} has an impossible shape [${shape.join(", ")}]`);
  return count * DTYPE_BYTES[dtype];
}

/** Widest elements first, so that each tensor starts at a multiple of its element size; then by name, as UTF-8. */
function inFileOrder(entries: readonly TensorEntry[]): TensorEntry[] {
  return [...entries].sort(
    (a, b) =>
      DTYPE_ORDER.indexOf(a.dtype) - DTYPE_ORDER.indexOf(b.dtype) ||
      Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
}

/** Length and header text, padded with spaces so that the data starts at a multiple of 8. */
function encodeHeader(ordered: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): Buffer {
  const members = [`"__metadata__":${JSON.stringify(metadata)}`];
  const seen = new Set(["__metadata__"]);
  let offset = 0;
  for (const entry of ordered) {
    const { name, dtype, shape } = entry;
    if (seen.has(name)) throw new Error(`two tensors named ${name}`);
    seen.add(name);
    const end = offset + byteLength(entry);
    // Members are joined by hand: an object would reorder names that look like integers.
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
    offset = end;
  }
  const text = Buffer.from(`{${members.join(",")}}`);
  const length = Math.ceil(text.length / 8) * 8;
  const header = Buffer.alloc(8 + length, " ");
  header.writeBigUInt64LE(BigInt(length));
  text.copy(header, 8);
  return header;
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    written += (await file.write(bytes, written, Math.min(WRITE_BYTES, bytes.length - written))).bytesWritten;
  }
}

/** Runs `work`; a failed system call becomes a UserError that names `path`. */
async function forUser<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Error && "syscall" in error)) throw error;
    const full = ["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "");
    const reason = full ? "no space left on the disk; free some or choose another folder" : error.message;
    throw new UserError(`Cannot write ${path}: ${reason}.`, { cause: error });
  }
}

/** Makes a rename in `folder` survive a power cut. Windows cannot open folders and needs no such call. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  await using handle = await open(folder, "r");
  await handle.sync();
}

/** Writes the whole file beside `path` under a temporary name, which is returned; nothing is left if that fails. */
async function stage(path: string, entries: readonly TensorEntry[], metadata: Record<string, string>): Promise<string> {
  const ordered = inFileOrder(entries);
  const header = encodeHeader(ordered, metadata);
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await using file = await open(temporary, "wx");
    await writeAll(file, header);
    for (const entry of ordered) {
      const bytes = await entry.data();
      if (bytes.length !== byteLength(entry)) {
        throw new Error(
          `tensor ${entry.name} gave ${bytes.length} bytes instead of ${byteLength(entry)} ` +
            `for ${entry.dtype} [${entry.shape.join(", ")}]`,
        );
      }
      await writeAll(file, bytes);
    }
    await file.sync();
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return temporary;
}

const PT_METADATA = { format: "pt" }; // transformers and PEFT refuse or warn without it

/**
 * Writes one safetensors file.
 * @param metadata text to text, stored as `__metadata__`
 * @throws UserError when the disk or the folder refuses; the old file, if any, is then untouched
 */
export async function writeSafetensors(
  path: string,
  entries: Iterable<TensorEntry>,
  metadata: Record<string, string> = PT_METADATA,
): Promise<void> {
  await forUser(path, async () => {
    const temporary = await stage(path, [...entries], metadata);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  });
}

/** Splits in the given order, as transformers does; a tensor above the limit gets a file of its own. */
function splitIntoShards(entries: readonly TensorEntry[], maxShardBytes: number): TensorEntry[][] {
  const shards: TensorEntry[][] = [];
  let current: TensorEntry[] = [];
  let size = 0;
  for (const entry of entries) {
    const bytes = byteLength(entry);
    if (bytes > maxShardBytes) {
      shards.push([entry]);
      continue;
    }
    if (size + bytes > maxShardBytes) {
      shards.push(current);
      current = [];
      size = 0;
    }
    current.push(entry);
    size += bytes;
  }
  if (current.length > 0 || shards.length === 0) shards.push(current);
  return shards;
}

function encodeIndex(shards: readonly TensorEntry[][], names: readonly string[]): string {
  const all = shards.flat();
  const weightMap = shards
    .flatMap((shard, i) => shard.map((entry) => [entry.name, names[i]] as const))
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const metadata = {
    total_parameters: all.reduce((sum, entry) => sum + elementCount(entry.shape), 0),
    total_size: all.reduce((sum, entry) => sum + byteLength(entry), 0),
  };
  return `${JSON.stringify({ metadata, weight_map: Object.fromEntries(weightMap) }, null, 2)}\n`;
}

/**
 * Writes a model's weights into `folder` as `model.safetensors`, or, above `maxShardBytes` (default 50 GB, as
 * transformers 5), as `model-00001-of-0000N.safetensors` with `model.safetensors.index.json`. Weights of an earlier save
 * that the new ones replace are removed, after the new ones are complete.
 * @throws UserError when the disk or the folder refuses; earlier weights are then untouched
 */
export async function writeShardedSafetensors(
  folder: string,
  entries: Iterable<TensorEntry>,
  { maxShardBytes = 50e9 }: { maxShardBytes?: number } = {},
): Promise<void> {
  const shards = splitIntoShards([...entries], maxShardBytes);
  const count = String(shards.length).padStart(5, "0");
  const names = shards.map((_, i) =>
    shards.length === 1 ? "model.safetensors" : `model-${String(i + 1).padStart(5, "0")}-of-${count}.safetensors`,
  );
  await forUser(folder, async () => {
    const staged = new Map<string, string>(); // temporary path to final name
    try {
      for (const [i, shard] of shards.entries()) {
        staged.set(await stage(join(folder, names[i]!), shard, PT_METADATA), names[i]!);
      }
      if (shards.length > 1) {
        const index = "model.safetensors.index.json";
        const temporary = join(folder, `.${index}.${randomBytes(6).toString("hex")}.tmp`);
        staged.set(temporary, index);
        await using file = await open(temporary, "wx");
        await file.writeFile(encodeIndex(shards, names));
        await file.sync();
      }
      for (const [temporary, name] of staged) await rename(temporary, join(folder, name));
    } finally {
      for (const temporary of staged.keys()) await rm(temporary, { force: true });
    }
    await syncFolder(folder);
    const written = new Set(staged.values());
    for (const name of await readdir(folder)) {
      const isWeights = /^model(-\d{5}-of-\d{5})?\.safetensors$|^model\.safetensors\.index\.json$/.test(name);
      if (isWeights && !written.has(name)) await rm(join(folder, name));
    }
  });
}
