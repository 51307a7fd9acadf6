/** Child processes for tests that may crash. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { nativePath } from "../../src/torch/native.js";

export { nativePath };

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

const childPath = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export interface StartOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** KiB of address space that it may take (Linux). */
  addressSpace?: number;
}

/** Starts `node <script beside this file> <args>` on one thread; `ended` settles when it has ended. */
export function start(script: string, args: string[], { cwd, env, addressSpace }: StartOptions = {}) {
  const command = [process.execPath, childPath(script), ...args];
  if (addressSpace) command.unshift("bash", "-c", 'ulimit -c 0; ulimit -v "$0"; exec "$@"', String(addressSpace));
  const child = spawn(command[0]!, command.slice(1), {
    cwd,
    env: { ...process.env, OMP_NUM_THREADS: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, ended };
}

const read = (path: string) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), "utf8");
const opNames = (text: string) => [...text.matchAll(/"((?:aten|slimtune)::[\w.]+)"/g)].map(([, name]) => name!);

/** The ops that the native module lets through. */
export const openOps = (): string[] => opNames(read("../../native/src/open_ops.cc"));

/** The ops that slimtune's sources call. */
export function opsInUse(): string[] {
  const names = readdirSync(fileURLToPath(new URL("../../src", import.meta.url)), {
    recursive: true,
    encoding: "utf8",
  });
  const sources = names.filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  return [...new Set(sources.flatMap((name) => opNames(read(`../../src/${name}`))))].sort();
}
