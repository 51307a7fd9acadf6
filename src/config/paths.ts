import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { expandHome } from "../support/home.js";
import { isHubId } from "../support/hubId.js";

const SAYS_PATH = /^(\.\.?|~)?[/\\]|^(\.\.?|~)$/;
const GLOB = /[*?[\]{}]/;
const DATA_FILE = /\.(jsonl?|csv|tsv|parquet|txt|arrow|gz|zst)$/i;

export type Resolved = { value: string } | { problem: string };

/**
 * A value that is a local path or a hub id: the absolute path where something is there (seen from `folder`), the hub id
 * as it is otherwise; a problem where it can be neither.
 */
export function resolveModel(value: string, folder: string): Resolved {
  const path = resolve(folder, expandHome(value));
  if (existsSync(path)) return { value: path };
  if (SAYS_PATH.test(value)) return { problem: `no such folder: ${path}` };
  if (isHubId(value)) return { value };
  return { problem: `"${value}" is neither a folder (${path} does not exist) nor a hub id such as org/name` };
}

/** The same for a dataset, which may be a glob, too. */
export function resolveDataset(value: string, folder: string): Resolved {
  const path = resolve(folder, expandHome(value));
  if (existsSync(path) || GLOB.test(value)) return { value: path };
  if (SAYS_PATH.test(value) || DATA_FILE.test(value)) return { problem: `no such file or folder: ${path}` };
  if (isHubId(value)) return { value };
  return { problem: `"${value}" is neither a file (${path} does not exist) nor the hub id of a dataset` };
}
