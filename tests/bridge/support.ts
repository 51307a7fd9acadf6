/** Child processes for tests that may crash. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
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

/** Starts `node <script beside this file> <args>` on one thread; `ended` settles when it has ended. */
export function start(script: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [childPath(script), ...args], {
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

/** The op names that slimtune's sources call, so that a new op is fuzzed from its first day. */
export function opsInUse(): string[] {
  const source = fileURLToPath(new URL("../../src", import.meta.url));
  const names = new Set<string>();
  for (const name of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts") || name.endsWith(".test.ts")) continue;
    for (const [, op] of readFileSync(join(source, name), "utf8").matchAll(/"((?:aten|slimtune)::[\w.]+)"/g)) names.add(op!);
  }
  return [...names].sort();
}
