/** What goes into the addon: a rebuild is due where it has changed. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { NativePaths } from "../nativeModule/paths.js";
import type { Libtorch } from "../nativeModule/record.js";

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
