import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

export interface DownloadOptions {
  sha256?: string;
  onProgress?: (done: number, total: number | undefined) => void;
  /** No answer at all within this time: the host is taken as unreachable. */
  connectTimeoutMs?: number;
  /** No byte within this time: the connection is taken as dead, and a new one continues. */
  stallTimeoutMs?: number;
  /** Between a broken connection and the next. */
  retryDelayMs?: number;
}

/** What a partial file is a part of; it is continued only while the server still has the same. */
interface PartialInfo {
  url: string;
  /** ETag or Last-Modified, as the server gave it. */
  validator?: string;
}

const RECONNECTS = 5;

/**
 * Downloads to `dest` by way of `dest.partial`, which a later call continues (HTTP Range) if the file on the server
 * is still the same, and replaces if not. A connection that breaks after some bytes is taken up again a few times.
 * `dest` appears only complete, of the announced size and with the right SHA-256.
 * @throws Error whose message is the reason, fit for "tried <url>: <reason>"
 */
export async function download(url: string, dest: string, options: DownloadOptions = {}): Promise<void> {
  const partial = `${dest}.partial`;
  const infoFile = `${partial}.json`;
  for (let attempt = 0; ; attempt++) {
    const before = await sizeOf(partial);
    try {
      await transfer(url, partial, infoFile, options);
      break;
    } catch (error) {
      const grew = (await sizeOf(partial)) > before;
      if (!(error instanceof Interrupted) || !grew || attempt >= RECONNECTS) throw error;
      await sleep(options.retryDelayMs ?? 1000);
    }
  }
  if (options.sha256) {
    const found = await sha256Of(partial);
    if (found !== options.sha256) {
      await rm(partial, { force: true });
      await rm(infoFile, { force: true });
      throw new Error(`the file is not the expected one (SHA-256 ${found}, expected ${options.sha256})`);
    }
  }
  await rename(partial, dest);
  await rm(infoFile, { force: true });
}

/** A connection that broke; another one may do better. */
class Interrupted extends Error {}

async function transfer(url: string, partial: string, infoFile: string, options: DownloadOptions): Promise<void> {
  const validator = await validatorOf(infoFile, url);
  const have = validator ? await sizeOf(partial) : 0;
  const abort = new AbortController();
  let timer = setTimeout(
    () => abort.abort(new Error(`no answer within ${(options.connectTimeoutMs ?? 10_000) / 1000} s`)),
    options.connectTimeoutMs ?? 10_000,
  );
  let file: FileHandle | undefined;
  try {
    const headers: Record<string, string> = { "accept-encoding": "identity" };
    if (have > 0) Object.assign(headers, { range: `bytes=${have}-`, "if-range": validator });
    const response = await fetch(url, { headers, signal: abort.signal });
    const continues = response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${have}-`);
    if (response.status === 416 && have > 0) {
      // What we have is not a beginning of what is there: forget it, and the next attempt starts over.
      await rm(partial, { force: true });
      await rm(infoFile, { force: true });
      await response.body?.cancel();
      clearTimeout(timer);
      return await transfer(url, partial, infoFile, options);
    }
    if (!response.body || !(response.status === 200 || continues)) {
      await response.body?.cancel();
      throw new Error(`HTTP ${response.status} ${response.statusText}`.trim());
    }
    const length = response.headers.get("content-length");
    const start = continues ? have : 0;
    const total = length ? start + Number(length) : undefined;
    const info: PartialInfo = { url, validator: strongValidator(response.headers) };
    await writeFile(infoFile, JSON.stringify(info));
    file = await open(partial, continues ? "a" : "w");
    let done = start;
    const stalled = () => abort.abort(new Error("the connection went silent"));
    const reader = response.body.getReader();
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(stalled, options.stallTimeoutMs ?? 60_000);
      const { value, done: ended } = await reader.read().catch((error: unknown) => {
        throw new Interrupted(reasonOf(error));
      });
      if (ended) break;
      await file.writeFile(value);
      done += value.byteLength;
      options.onProgress?.(done, total);
    }
    if (total !== undefined && done !== total) throw new Interrupted(`ended after ${done} of ${total} bytes`);
  } catch (error) {
    throw error instanceof Interrupted ? error : new Error(reasonOf(error), { cause: error });
  } finally {
    clearTimeout(timer);
    await file?.close();
  }
}

/** A weak ETag promises no equal bytes, so that only a strong one or a date will do. */
function strongValidator(headers: Headers): string | undefined {
  const etag = headers.get("etag");
  return (etag && !etag.startsWith("W/") ? etag : headers.get("last-modified")) ?? undefined;
}

async function validatorOf(infoFile: string, url: string): Promise<string | undefined> {
  try {
    const info = JSON.parse(await readFile(infoFile, "utf8")) as PartialInfo;
    return info.url === url ? info.validator : undefined;
  } catch {
    return undefined;
  }
}

async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    (found) => found.size,
    () => 0,
  );
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash.digest("hex");
}

/** fetch hides the reason in `cause` ("fetch failed"), and there sometimes in a list, one for each address. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length) return reasonOf(error.errors[0]);
  if (error.cause) return reasonOf(error.cause);
  return error.message || (error as NodeJS.ErrnoException).code || error.name;
}
