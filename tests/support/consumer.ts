/** A project of somebody who installed the package: its folder, its compiler, its programs. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const TSC = fileURLToPath(import.meta.resolve("typescript/package.json")).replace("package.json", "bin/tsc");

/** An empty project with slimtune and Node's types in its node_modules. */
export function makeProject(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-consumer-"));
  mkdirSync(join(folder, "node_modules/@types"), { recursive: true });
  symlinkSync(root, join(folder, "node_modules/slimtune"));
  for (const name of ["node", "../undici-types"]) {
    symlinkSync(join(root, "node_modules/@types", name), join(folder, "node_modules/@types", name));
  }
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** What the compiler says of the project with these options; "" when it has nothing to say. */
export function compile(folder: string, compilerOptions: Record<string, unknown>): string {
  const options = { target: "ES2023", lib: ["ES2023", "ESNext.Disposable"], types: ["node"], strict: true };
  const config = { compilerOptions: { ...options, ...compilerOptions }, exclude: ["node_modules", "built"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const { stdout, stderr } = spawnSync(process.execPath, [TSC, "-p", folder], { encoding: "utf8" });
  return stdout + stderr;
}
