/** One file of a repository into the cache: continued after an interruption, and checked before it gets its name. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { copyFile, mkdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { setTimeout as sleep } from "node:timers/promises";
import { downloadFile } from "@huggingface/hub";
import { UserError } from "../support/errors.js";
import { withLock } from "../support/lock.js";
import { hubFetch, isUnreachable, type RemoteFile, type Repository } from "./client.js";

/** Called with the bytes of the file that are here. */
export type OnBytes = (received: number) => void;

const ATTEMPTS = 4;
const FIRST_DELAY_MS = 500; // doubled after each attempt

/** Following links; undefined if there is no such file. */
async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

/** The content's hash in the form of `expected`: SHA-256, or git's SHA-1 of a blob. */
async function hashOf(path: string, expected: RemoteFile): Promise<string> {
  const hash = createHash(expected.hash.length === 64 ? "sha256" : "sha1");
  if (expected.hash.length === 40) hash.update(`blob ${expected.size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Content that is not what the hub announced. */
class Damaged extends Error {}

/** Requests what `partial` lacks of the file and appends it. */
async function append(repo: Repository, commit: string, file: RemoteFile, partial: string, onBytes: OnBytes) {
  let received = (await sizeOf(partial)) ?? 0;
  if (received >= file.size) return;
  const blob = await downloadFile({
    repo: { type: repo.type, name: repo.id },
    path: file.path,
    revision: commit,
    hubUrl: repo.settings.endpoint,
    accessToken: repo.settings.token,
    fetch: hubFetch(repo.settings),
    xet: false, // plain HTTP gives ranges of the file itself, so that a download can be continued
  });
  if (blob?.size !== file.size) throw new Damaged(`the server has ${blob?.size ?? "no"} bytes of it`);
  const rest = received === 0 ? blob : blob.slice(received);
  await pipeline(
    Readable.fromWeb(rest.stream() as ReadableStream<Uint8Array>),
    async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        received += chunk.length;
        if (received > file.size) throw new Damaged("the server sent more bytes than that");
        onBytes(received);
        yield chunk;
      }
    },
    createWriteStream(partial, { flags: "a" }),
  );
  if (received < file.size) throw new Error(`the connection ended after ${received} of ${file.size} bytes`);
}

async function downloadBlob(repo: Repository, commit: string, file: RemoteFile, blob: string, onBytes: OnBytes) {
  const partial = `${blob}.incomplete`;
  let continued = (await sizeOf(partial)) !== undefined;
  if (!continued) await writeFile(partial, "");
  for (let attempt = 1; ; attempt++) {
    try {
      await append(repo, commit, file, partial, onBytes);
      const found = await hashOf(partial, file);
      if (found !== file.hash) throw new Damaged(`its content has the hash ${found}`);
      return await rename(partial, blob);
    } catch (error) {
      if (error instanceof Damaged) {
        await rm(partial, { force: true });
        if (!continued) {
          throw new UserError(
            `${file.path} of ${repo.id} arrived damaged: it should have ${file.size} bytes and the hash ${file.hash}, ` +
              `but ${error.message}. Try again; if it stays so, a proxy or mirror on the way changes the file.`,
          );
        }
        continued = false; // the part from an earlier run was to blame: once more from the start
      } else {
        if (!isUnreachable(error) || attempt === ATTEMPTS) throw error;
        await sleep(FIRST_DELAY_MS * 2 ** (attempt - 1));
      }
    }
  }
}

/** Makes `pointer` show the blob: a relative link as Python's huggingface_hub makes it, or a copy where links fail. */
async function point(pointer: string, blob: string): Promise<void> {
  await mkdir(dirname(pointer), { recursive: true });
  await rm(pointer, { force: true });
  await symlink(relative(dirname(pointer), blob), pointer).catch(() => copyFile(blob, pointer));
}

const pointerOf = (repo: Repository, commit: string, file: RemoteFile) =>
  join(repo.folder, "snapshots", commit, file.path);

/** Whether the cache has the file, with the right size. */
export async function isCached(repo: Repository, commit: string, file: RemoteFile): Promise<boolean> {
  return (await sizeOf(pointerOf(repo, commit, file))) === file.size;
}

/**
 * Downloads one file unless the cache has it. Processes that want the same file wait for one another; `onNotice` is told.
 */
export async function fetchFile(
  repo: Repository,
  commit: string,
  file: RemoteFile,
  onBytes: OnBytes,
  onNotice: (message: string) => void,
): Promise<void> {
  if (await isCached(repo, commit, file)) return;
  const blob = join(repo.folder, "blobs", file.hash);
  await mkdir(dirname(blob), { recursive: true });
  const lock = join(repo.settings.cacheDir, ".locks", basename(repo.folder), `${file.hash}.slimtune`);
  const onWait = (holder: string) => onNotice(`Waiting for ${holder}, which downloads ${file.path}.`);
  await withLock(lock, onWait, async () => {
    if ((await sizeOf(blob)) !== file.size) await downloadBlob(repo, commit, file, blob, onBytes);
    await point(pointerOf(repo, commit, file), blob);
  });
}
