import { createWriteStream } from "node:fs";
import { mkdir, statfs } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32 } from "node:zlib";
import { type Entry, openPromise } from "yauzl";
import { formatBytes } from "../support/meter.js";

export interface ExtractOptions {
  /** Which entries to take, by their path in the archive; default: all. */
  keep?: (path: string) => boolean;
  /** Bytes written of all bytes to be written. */
  onProgress?: (done: number, total: number) => void;
}

const FILE_TYPE_MASK = 0o170000;
const SYMLINK = 0o120000;

/**
 * Unpacks a zip archive into `dest`. Every entry is checked before the first byte is written: a path that leaves
 * `dest`, a symbolic link or a path that occurs twice refuses the whole archive. Sizes and CRC-32 are checked.
 * @throws Error with the entry's name. `dest` may then hold a part; the caller removes it.
 */
export async function extractZip(zip: string, dest: string, options: ExtractOptions = {}): Promise<void> {
  const root = resolve(dest);
  const archive = await openPromise(zip, { lazyEntries: true, autoClose: false, strictFileNames: true });
  try {
    const entries: Entry[] = [];
    for await (const entry of archive.eachEntry()) {
      checkEntry(entry, root);
      if (!entry.fileName.endsWith("/") && (options.keep?.(entry.fileName) ?? true)) entries.push(entry);
    }
    const total = entries.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
    await mkdir(root, { recursive: true });
    const { bavail, bsize } = await statfs(root);
    if (bavail * bsize < total) {
      throw new Error(`no space: ${formatBytes(total)} needed, ${formatBytes(bavail * bsize)} free in ${root}`);
    }
    let done = 0;
    for (const entry of entries) {
      const file = join(root, entry.fileName);
      await mkdir(dirname(file), { recursive: true });
      let crc = 0;
      const check = new Transform({
        transform(chunk: Buffer, _encoding, next) {
          crc = crc32(chunk, crc);
          done += chunk.length;
          options.onProgress?.(done, total);
          next(null, chunk);
        },
      });
      // "wx": an entry never writes over another
      await pipeline(await archive.openReadStreamPromise(entry), check, createWriteStream(file, { flags: "wx" }));
      if (crc !== entry.crc32) throw new Error(`the archive is damaged: ${entry.fileName} has a wrong checksum`);
    }
  } finally {
    archive.close();
  }
}

function checkEntry(entry: Entry, root: string): void {
  const target = resolve(root, entry.fileName);
  if (target !== root && !target.startsWith(root + sep)) {
    throw new Error(`the archive is refused: ${entry.fileName} would be written outside of ${root}`);
  }
  if (((entry.externalFileAttributes >>> 16) & FILE_TYPE_MASK) === SYMLINK) {
    throw new Error(`the archive is refused: ${entry.fileName} is a symbolic link`);
  }
}
