import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { makeZip, temporaryFolder, type ZipEntry, zipOf } from "../../tests/setup/fakes.js";
import { extractZip } from "./unzip.js";

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
  return () => rmSync(folder, { recursive: true });
});

function extract(zip: Buffer, keep?: (path: string) => boolean): Promise<void> {
  writeFileSync(join(folder, "a.zip"), zip);
  return extractZip(join(folder, "a.zip"), join(folder, "in/out"), { keep });
}

test("files are unpacked with their folders, and only those to keep", async () => {
  await extract(zipOf({ "a/b/c.txt": "deep", "d.txt": "", "a/skip.txt": "x" }), (path) => !path.includes("skip"));
  expect(readFileSync(join(folder, "in/out/a/b/c.txt"), "utf8")).toBe("deep");
  expect(readFileSync(join(folder, "in/out/d.txt"), "utf8")).toBe("");
  expect(existsSync(join(folder, "in/out/a/skip.txt"))).toBe(false);
});

const link = { path: "lib", text: "/tmp", mode: 0o120777 };
const hostile: [string, ZipEntry[], RegExp][] = [
  ["a path upwards", [{ path: "../evil.txt", text: "x" }], /invalid relative path/],
  ["a path upwards in the middle", [{ path: "a/../../../evil.txt", text: "x" }], /invalid relative path/],
  ["an absolute path", [{ path: "/tmp/slimtune-evil.txt", text: "x" }], /absolute path/],
  ["a backslash", [{ path: "..\\evil.txt", text: "x" }], /invalid characters/],
  ["a symbolic link", [link, { path: "lib/evil.txt", text: "x" }], /lib is a symbolic link/],
];
test.each(hostile)("%s refuses the archive before anything is written", async (_name, entries, message) => {
  const zip = makeZip([{ path: "good.txt", text: "good" }, ...entries]);
  await expect(extract(zip)).rejects.toThrow(message);
  expect(readdirSync(folder, { recursive: true })).toEqual(["a.zip"]);
});

test("an entry never writes over another", async () => {
  const zip = makeZip([
    { path: "a.txt", text: "1" },
    { path: "a.txt", text: "2" },
  ]);
  await expect(extract(zip)).rejects.toThrow(/EEXIST/);
});

test("damage is found: a wrong checksum, a cut archive", async () => {
  const wrong = makeZip([{ path: "a.txt", text: "text", crc: 1 }]);
  await expect(extract(wrong)).rejects.toThrow(/damaged: a.txt has a wrong checksum/);
  const whole = zipOf({ "b.txt": "text" });
  await expect(extract(whole.subarray(0, whole.length - 8))).rejects.toThrow();
});
