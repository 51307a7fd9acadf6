import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { UserError } from "./errors.js";
import { openRegularFile, readRegularFile } from "./regularFile.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-regular-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const errorOf = (work: Promise<unknown>) =>
  work.then(
    () => expect.fail("it was read"),
    (error) => error,
  );

describe("a regular file", () => {
  it.each([0, 1, 5, (1 << 22) - 1, 1 << 22, (1 << 22) + 1])("of %d bytes is read whole", async (size) => {
    const bytes = Buffer.alloc(size, "abc");
    const path = join(folder, "file");
    writeFileSync(path, bytes);
    expect((await readRegularFile(path, size)).equals(bytes)).toBe(true);
    symlinkSync(path, join(folder, "link"));
    expect((await readRegularFile(join(folder, "link"), 1e8)).equals(bytes)).toBe(true);
  });

  it("of more bytes than the limit is refused", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "x");
    truncateSync(path, 5e12); // nothing of it is on the disk
    const error = await errorOf(readRegularFile(path, 10_000_000));
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toBe(`${path} has 5000.00 GB; such a file may have 10.0 MB. Is it the right file?`);
  });

  it.runIf(process.platform === "linux")("that hides its size is still held to the limit", async () => {
    expect((await readRegularFile("/proc/self/status", 1e6)).toString()).toMatch(/^Name:/);
    await expect(readRegularFile("/proc/self/status", 10)).rejects.toThrow("has more bytes than it says");
  });

  it("that is not there is told by the system's own error", async () => {
    expect(await errorOf(readRegularFile(join(folder, "none"), 10))).toMatchObject({ code: "ENOENT" });
  });

  it("can be given up", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "text");
    const reason = new Error("enough");
    await expect(readRegularFile(path, 10, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe.skipIf(process.platform === "win32")("anything else is refused at once", () => {
  it.each<[string, (path: string) => unknown]>([
    ["a folder", (path) => mkdirSync(path)],
    ["a pipe", (path) => execFileSync("mkfifo", [path])],
    ["a device", (path) => symlinkSync("/dev/zero", path)],
    ["a device", (path) => symlinkSync("/dev/null", path)],
    ["a socket", (path) => new Promise<void>((done) => sockets.push(createServer().listen(path, done)))],
  ])("%s", async (kind, make) => {
    const path = join(folder, "file");
    await make(path);
    for (const work of [() => readRegularFile(path, 10), () => openRegularFile(path)]) {
      const error = await errorOf(work());
      expect(error).toBeInstanceOf(UserError);
      expect(error.message).toContain(`${path} is ${kind}, not a file`);
    }
  });

  const sockets: ReturnType<typeof createServer>[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.close();
  });
});
