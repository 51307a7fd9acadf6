import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { temporaryFolder } from "../../tests/setup/fakes.js";
import { download } from "./download.js";

const content = randomBytes(300_000);
const quick = { retryDelayMs: 1, stallTimeoutMs: 2_000 };

let folder: string;
let dest: string;
let url: string;
let etag: string;
/** One for each request: how many bytes are sent before the connection is cut (Infinity: all). Then: all. */
let cuts: number[];
let ranges: (string | undefined)[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;

/** Serves `content` as a file server does, with Range and If-Range. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const { range } = request.headers;
  ranges.push(range);
  const start = range && request.headers["if-range"] === etag ? Number(/\d+/.exec(range)![0]) : 0;
  const headers: Record<string, string | number> = { etag, "content-length": content.length - start };
  if (start) headers["content-range"] = `bytes ${start}-${content.length - 1}/${content.length}`;
  response.writeHead(start ? 206 : 200, headers);
  const limit = cuts.shift() ?? Number.POSITIVE_INFINITY;
  const body = content.subarray(start);
  if (limit >= body.length) response.end(body);
  else response.write(body.subarray(0, limit), () => setTimeout(() => response.destroy(), 50));
}

beforeEach(async () => {
  folder = temporaryFolder();
  dest = join(folder, "file.zip");
  etag = '"one"';
  cuts = [];
  ranges = [];
  answer = serve;
  const server = createServer((request, response) => answer(request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file.zip`;
  return () => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  };
});

function expectComplete(): void {
  expect(readFileSync(dest).equals(content)).toBe(true);
  expect(readdirSync(folder)).toEqual(["file.zip"]);
}

/** Leaves the first 100 000 bytes behind, as an interruption does. */
async function interrupt(): Promise<void> {
  cuts = [100_000, 0];
  await expect(download(url, dest, quick)).rejects.toThrow();
  expect(existsSync(dest)).toBe(false);
  expect(readFileSync(`${dest}.partial`).equals(content.subarray(0, 100_000))).toBe(true);
  ranges = [];
}

test("a whole file, with progress and its checksum", async () => {
  const seen: [number, number | undefined][] = [];
  const sha256 = createHash("sha256").update(content).digest("hex");
  await download(url, dest, { ...quick, sha256, onProgress: (done, total) => seen.push([done, total]) });
  expectComplete();
  expect(seen.at(-1)).toEqual([content.length, content.length]);
});

describe("after an interruption", () => {
  test("the rest is fetched", async () => {
    await interrupt();
    await download(url, dest, quick);
    expectComplete();
    expect(ranges).toEqual(["bytes=100000-"]);
  });

  test("it starts over when the file on the server has changed", async () => {
    await interrupt();
    etag = '"two"';
    await download(url, dest, quick);
    expectComplete();
  });

  test("it starts over when the server knows no ranges", async () => {
    await interrupt();
    answer = (_request, response) => response.end(content);
    await download(url, dest, quick);
    expectComplete();
  });

  test("it starts over when what is there is longer than the file", async () => {
    await interrupt();
    writeFileSync(`${dest}.partial`, Buffer.alloc(400_000));
    answer = (request, response) => (request.headers.range ? response.writeHead(416).end() : serve(request, response));
    await download(url, dest, quick);
    expectComplete();
  });

  test("it starts over when nothing says what the part is of", async () => {
    await interrupt();
    rmSync(`${dest}.partial.json`);
    await download(url, dest, quick);
    expectComplete();
    expect(ranges).toEqual([undefined]);
  });
});

test("a connection that breaks is taken up again within one call", async () => {
  cuts = [50_000, 70_000];
  await download(url, dest, quick);
  expectComplete();
  expect(ranges).toEqual([undefined, "bytes=50000-", "bytes=120000-"]);
});

test("a connection that goes silent is taken up again", async () => {
  answer = (request, response) => {
    answer = serve;
    response.writeHead(200, { etag, "content-length": content.length });
    response.write(content.subarray(0, 10_000));
    ranges.push(request.headers.range);
  };
  await download(url, dest, { ...quick, stallTimeoutMs: 300 });
  expectComplete();
  expect(ranges).toEqual([undefined, "bytes=10000-"]);
});

describe("reasons", () => {
  test("no answer in time", async () => {
    answer = () => {};
    await expect(download(url, dest, { connectTimeoutMs: 200 })).rejects.toThrow("no answer within 0.2 s");
  });

  test("an HTTP status", async () => {
    answer = (_request, response) => response.writeHead(403).end("no");
    await expect(download(url, dest)).rejects.toThrow("HTTP 403 Forbidden");
  });

  test("a refused connection", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    closed.close();
    await once(closed, "close");
    await expect(download(`http://127.0.0.1:${port}/x.zip`, dest)).rejects.toThrow(/ECONNREFUSED/);
  });

  test("a wrong checksum, and the file is thrown away", async () => {
    await expect(download(url, dest, { sha256: "00" })).rejects.toThrow(
      /not the expected one \(SHA-256 [0-9a-f]{64}, expected 00\)/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });
});
