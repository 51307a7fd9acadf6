import { readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import type { NativePaths } from "./paths.js";

/** A LibTorch that can be compiled against: the folder that has `include/` and `lib/`. */
export interface Libtorch {
  root: string;
  /** As in its headers, without a suffix: `2.13.0`. */
  version: string;
  /** `cpu`, `cu130`, `rocm7.1`: what its libraries can drive. */
  variant: string;
}

/** Written beside the addon when a build has succeeded; a rebuild is due only when the hash differs. */
export interface BuildRecord extends Libtorch {
  /** How the LibTorch was found. */
  how: string;
  /** Over everything that goes into the addon: see `buildHash`. */
  hash: string;
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
