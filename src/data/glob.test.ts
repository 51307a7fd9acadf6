import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { globFiles } from "./glob.js";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "slimtune-glob-"));
  await mkdir(path.join(root, "a/b.c"), { recursive: true });
  await mkdir(path.join(root, ".hidden"));
  const names = [
    "a/train-1.jsonl",
    "a/train-2.jsonl",
    "a/eval.json",
    "a/b.c/deep.jsonl",
    ".hidden/x.jsonl",
    "a/^x.jsonl",
  ];
  for (const name of names) await writeFile(path.join(root, name), "");
});
afterAll(() => rm(root, { recursive: true }));

it.each([
  ["a/*.jsonl", ["a/^x.jsonl", "a/train-1.jsonl", "a/train-2.jsonl"]],
  ["*/train-?.jsonl", ["a/train-1.jsonl", "a/train-2.jsonl"]],
  ["a/train-[2-9].jsonl", ["a/train-2.jsonl"]],
  ["a/train-[!2].jsonl", ["a/train-1.jsonl"]],
  ["a/{eval.json,train-1.jsonl}", ["a/eval.json", "a/train-1.jsonl"]],
  ["**/*.jsonl", ["a/^x.jsonl", "a/b.c/deep.jsonl", "a/train-1.jsonl", "a/train-2.jsonl"]],
  ["a/*.c/*", ["a/b.c/deep.jsonl"]],
  ["a/bxc/*", []],
  [".hid*/*", [".hidden/x.jsonl"]],
  ["nothing/*.jsonl", []],
])("%s", async (pattern, expected) => {
  const found = await globFiles(path.join(root, pattern));
  expect(found.map((name) => path.relative(root, name).replaceAll(path.sep, "/"))).toEqual(expected);
});

it("takes no longer for a pattern made to take for ever, and names one that is none", async () => {
  await writeFile(path.join(root, "a".repeat(200)), "");
  const begun = performance.now();
  expect(await globFiles(path.join(root, `${"*a".repeat(30)}b`))).toEqual([]);
  expect(performance.now() - begun).toBeLessThan(1000);
  await expect(globFiles(path.join(root, "[z-a]*"))).rejects.toThrow(
    "dataset: the pattern [z-a]*: '(?s)[z-a].*' is not",
  );
});
