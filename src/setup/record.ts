import { createHash } from "node:crypto";
import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Libtorch } from "./libtorch.js";
import type { NativePaths } from "./paths.js";

/** Written beside the addon when a build has succeeded; a rebuild is due only when the hash differs. */
export interface BuildRecord extends Libtorch {
  /** How the LibTorch was found. */
  how: string;
  /** Over everything that goes into the addon: see `buildHash`. */
  hash: string;
}

/** Folders of the headers that npm brought. */
export interface NodeHeaders {
  addonApi: string;
  nodeApi: string;
}

const require = createRequire(import.meta.url);

export function nodeHeaders(): NodeHeaders {
  return {
    addonApi: dirname(require.resolve("node-addon-api/package.json")),
    nodeApi: join(dirname(require.resolve("node-api-headers/package.json")), "include"),
  };
}

/** The record of the last successful build, if its addon is still there. */
export function readRecord(paths: NativePaths): BuildRecord | undefined {
  try {
    return statSync(paths.addon).size > 0 ? (JSON.parse(readFileSync(paths.record, "utf8")) as BuildRecord) : undefined;
  } catch {
    return undefined; // not built, or the record was cut short: build again
  }
}

export function writeRecord(paths: NativePaths, record: BuildRecord): void {
  writeFileSync(`${paths.record}.tmp`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${paths.record}.tmp`, paths.record);
}

/**
 * Hash of what the addon is made of: the C++ sources, the versions of Node's headers, and the LibTorch.
 * Node's own version is not in it: an addon for Node-API runs on every later one.
 */
export function buildHash(paths: NativePaths, libtorch: Libtorch): string {
  const hash = createHash("sha256");
  const sources = readdirSync(paths.source, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(paths.source.length + 1))
    .filter((file) => !file.startsWith("build/"))
    .sort();
  for (const file of sources)
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(paths.source, file)))
      .update("\0");
  for (const name of ["node-addon-api", "node-api-headers"]) {
    const { version } = require(`${name}/package.json`) as { version: string };
    hash.update(`${name} ${version}\0`);
  }
  return hash.update(`${process.arch} ${libtorch.root} ${libtorch.version} ${libtorch.variant}`).digest("hex");
}
