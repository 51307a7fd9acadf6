import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { temporaryFolder, writeTree } from "../../tests/setup/fakes.js";
import { cudaLibraries } from "./cuda.js";
import { type NativePaths, nativePaths } from "./paths.js";

let folder: string;
let paths: NativePaths;

beforeEach(() => {
  folder = temporaryFolder();
  paths = nativePaths(join(folder, "native"));
  return () => rmSync(folder, { recursive: true });
});

function builtAgainst(variant: string): string {
  const root = writeTree(join(folder, "torch"), { "lib/libtorch_cuda.so": "x" });
  mkdirSync(dirname(paths.addon), { recursive: true });
  writeFileSync(paths.addon, "x");
  writeFileSync(paths.record, JSON.stringify({ root, version: "2.13.0", variant, how: "", hash: "" }));
  return join(root, "lib/libtorch_cuda.so");
}

test("a LibTorch for CUDA has its own library, and the native module's where that was built", () => {
  const library = builtAgainst("cu130");
  expect(cudaLibraries(paths)).toEqual([library]);
  writeFileSync(paths.kernels, "x");
  expect(cudaLibraries(paths)).toEqual([library, paths.kernels]);
});

test("nothing is loaded for a LibTorch for the CPU, or before a build", () => {
  expect(cudaLibraries(paths)).toEqual([]);
  builtAgainst("cpu");
  expect(cudaLibraries(paths)).toEqual([]);
});
