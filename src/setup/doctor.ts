import { existsSync, readFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { release } from "node:os";
import { dirname } from "node:path";
import { cudaLibraries } from "../nativeModule/cuda.js";
import { type NativePaths, nativePaths, packageVersion } from "../nativeModule/paths.js";
import type { Libtorch } from "../nativeModule/record.js";
import { readRecord } from "../nativeModule/record.js";
import { tryAddon } from "./build.js";
import { buildHash } from "./buildHash.js";
import { cacheDir } from "./cache.js";
import { run } from "./exec.js";
import { type Attempt, findLibtorch } from "./find.js";
import { type CpuInfo, readCpu, readMemory, readNvidia } from "./hardware.js";
import { inspectLibtorch } from "./libtorch.js";
import { askPip, askPython, pythonCandidates } from "./python.js";
import { compilerName, versionOf } from "./toolchain.js";

/** What the addon says of itself; null fields of the report mean "not there". */
export interface EngineReport {
  torch_version: string;
  threads: number;
  cpu_capability: string;
  devices: string[];
}

export interface DoctorReport {
  slimtune: string;
  node: string;
  os: string;
  cpu: CpuInfo;
  /** Bytes. */
  memory: { total: number; available: number; limit?: number };
  nvidia_gpus: string[];
  libtorch: (Libtorch & { how: string; built_against: boolean }) | null;
  /** Where LibTorch was looked for in vain. */
  libtorch_attempts: Attempt[];
  addon: { path: string; built: boolean; up_to_date: boolean; loads: boolean; reason?: string };
  engine: EngineReport | null;
  tools: {
    python: string | null;
    pip: string | null;
    cmake: string | null;
    ninja: string | null;
    compiler: string | null;
  };
  /** Free bytes on the cache's disk. */
  cache: { path: string; free: number };
  /** Everything that training needs is there. */
  ready: boolean;
}

/** Gathers everything that `slimtune doctor` prints. Changes nothing, and a broken part is reported, not thrown. */
export async function examineSystem(
  env: NodeJS.ProcessEnv = process.env,
  paths: NativePaths = nativePaths(),
): Promise<DoctorReport> {
  const { libtorch, attempts } = await whichLibtorch(env, paths);
  const record = readRecord(paths);
  const built = existsSync(paths.addon);
  const current =
    record !== undefined && libtorch?.built_against === true && buildHash(paths, libtorch) === record.hash;
  const { engine, reason } = built ? await askEngine(paths) : { engine: null, reason: "not built" };
  return {
    slimtune: packageVersion(),
    node: process.version,
    os: await osName(),
    cpu: await readCpu(),
    memory: readMemory(),
    nvidia_gpus: await readNvidia(),
    libtorch,
    libtorch_attempts: attempts,
    addon: { path: paths.addon, built, up_to_date: current, loads: engine !== null, reason },
    engine,
    tools: await readTools(env),
    cache: await freeSpace(cacheDir(env)),
    ready: engine !== null,
  };
}

async function whichLibtorch(env: NodeJS.ProcessEnv, paths: NativePaths) {
  const record = readRecord(paths);
  if (record) {
    const { libtorch, reason } = inspectLibtorch(record.root);
    if (libtorch) return { libtorch: { ...libtorch, how: record.how, built_against: true }, attempts: [] };
    return { libtorch: null, attempts: [{ where: "the LibTorch of the last build", reason }] };
  }
  try {
    const { found, attempts } = await findLibtorch({ env });
    return { libtorch: found ? { ...found.libtorch, how: found.how, built_against: false } : null, attempts };
  } catch (error) {
    return { libtorch: null, attempts: [{ where: "LIBTORCH", reason: (error as Error).message }] };
  }
}

/** Asks the addon in a process of its own: a binary that crashes must not take the doctor with it. */
async function askEngine(paths: NativePaths): Promise<{ engine: EngineReport | null; reason?: string }> {
  const unloadable = await tryAddon(paths.addon);
  if (unloadable) return { engine: null, reason: unloadable };
  const script = `
    const [path, ...libraries] = process.argv.slice(1);
    const addon = require(path);
    for (const library of libraries) addon.loadLibrary(library);
    process.stdout.write(JSON.stringify(addon.engineInfo()));`;
  const result = await run(process.execPath, ["-e", script, paths.addon, ...cudaLibraries(paths)], {
    timeoutMs: 120_000,
  });
  if (result.code !== 0) {
    const reason = result.failure ?? /^\w*Error: (.*)$/m.exec(result.stderr)?.[1] ?? result.stderr.trim();
    return { engine: null, reason: `it loads, but engineInfo() fails: ${reason}` };
  }
  return { engine: JSON.parse(result.stdout) as EngineReport };
}

async function readTools(env: NodeJS.ProcessEnv): Promise<DoctorReport["tools"]> {
  const tools: DoctorReport["tools"] = {
    python: null,
    pip: null,
    cmake: (await versionOf("cmake", env)) ?? null,
    ninja: (await versionOf("ninja", env)) ?? null,
    compiler: null,
  };
  for (const { command } of pythonCandidates(env)) {
    const answer = await askPython(command, env);
    if (typeof answer === "string") continue;
    tools.python = `${answer.version} (${answer.executable})`;
    tools.pip = (await askPip(command, env)).pip ?? null;
    break;
  }
  const name = await compilerName(env);
  if (name) tools.compiler = (await versionOf(name, env)) ?? null;
  return tools;
}

async function osName(): Promise<string> {
  const kernel = `${process.platform}-${process.arch}, kernel ${release()}`;
  if (process.platform === "darwin") {
    return `macOS ${(await run("sw_vers", ["-productVersion"])).stdout.trim()} (${kernel})`;
  }
  const file = "/etc/os-release";
  const name = existsSync(file) ? /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync(file, "utf8"))?.[1] : undefined;
  return `${name ?? process.platform} (${kernel})`;
}

async function freeSpace(path: string): Promise<{ path: string; free: number }> {
  let folder = path;
  while (!existsSync(folder)) folder = dirname(folder); // the cache may not be there yet
  const { bavail, bsize } = await statfs(folder);
  return { path, free: bavail * bsize };
}
