/** Opens and reads files that others wrote: regular ones alone, and no more bytes than such a file can mean. */
import { constants, type Stats } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { UserError } from "./errors.js";
import { formatBytes } from "./meter.js";

/** Bytes that a file of a kind may have: many times those of the largest in use, few enough to be read at once. */
export const FILE_LIMITS = {
  /** config.json, adapter_config.json and their like. */
  config: 10_000_000,
  /** The config of a run, written by a person. */
  run: 1_000_000,
  /** tokenizer.json with its vocabulary and merges; 33 MB is the largest in use. */
  tokenizer: 400_000_000,
  /** A chat template; 20 kB is a long one. */
  template: 1_000_000,
  /** Names of all tensors of a model, with the file of each. */
  index: 100_000_000,
  /** What a run writes about itself: its log entries are in it. */
  state: 1_000_000_000,
  /** A text for people, such as a dataset's card. */
  text: 10_000_000,
} as const;

// A pipe without a writer would keep `open` waiting for ever. Windows knows neither flag.
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);
const CHUNK = 1 << 26; // bytes of one read, between which it can be given up

/**
 * Opens a file to read, following links.
 * @throws UserError for what is no regular file (a folder, a pipe, a device); the system's own error, with its `code`,
 * when there is none or it may not be opened
 */
export async function openRegularFile(path: string): Promise<FileHandle> {
  let file: FileHandle;
  try {
    file = await open(path, OPEN_FLAGS);
  } catch (error) {
    // A socket cannot be opened at all.
    if ((error as NodeJS.ErrnoException).code === "ENXIO") throw notRegular(path, "a socket");
    throw error;
  }
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw notRegular(path, kindOf(stats));
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

export interface ReadOptions {
  signal?: AbortSignal;
  /** What to do about a file that is too large. */
  advice?: string;
}

/**
 * The bytes of a file, following links.
 * @throws as `openRegularFile`, and UserError for more than `limit` bytes, also where the file hides its size
 */
export async function readRegularFile(path: string, limit: number, options: ReadOptions = {}): Promise<Buffer> {
  await using file = await openRegularFile(path);
  const { size } = await file.stat();
  const { signal, advice = "Is it the right file?" } = options;
  const tooLarge = (amount: string) =>
    new UserError(`${path} has ${amount}; such a file may have ${formatBytes(limit)}. ${advice}`);
  if (size > limit) throw tooLarge(formatBytes(size));
  let bytes = Buffer.allocUnsafe(Math.max(size + 1, 4096));
  let filled = 0;
  while (filled <= limit) {
    signal?.throwIfAborted();
    if (filled === bytes.length) bytes = Buffer.concat([bytes], 2 * filled);
    const { bytesRead } = await file.read(bytes, filled, Math.min(bytes.length - filled, CHUNK));
    if (bytesRead === 0) return bytes.subarray(0, filled);
    filled += bytesRead;
  }
  throw tooLarge("more bytes than it says");
}

const notRegular = (path: string, kind: string) =>
  new UserError(`${path} is ${kind}, not a file that can be read. Name a regular file, or put one in its place.`);

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a pipe";
  if (stats.isSocket()) return "a socket";
  return "a device";
}
