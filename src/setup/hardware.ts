import { readFileSync } from "node:fs";
import { arch, availableParallelism, cpus, freemem, totalmem } from "node:os";
import { run } from "./exec.js";

export interface CpuInfo {
  model: string;
  physical_cores: number;
  logical_cores: number;
  /** Cores that this process may use (affinity). */
  usable_cores: number;
  /** The instruction sets that decide which kernels LibTorch takes. */
  instruction_sets: string[];
}

/** Names as people know them, and the flags by which Linux (x86, Arm) and macOS call them. */
const INSTRUCTION_SETS: [name: string, flags: string[]][] = [
  ["AVX2", ["avx2"]],
  ["AVX-512", ["avx512f"]],
  ["AVX512_VNNI", ["avx512_vnni"]],
  ["AVX512_BF16", ["avx512_bf16"]],
  ["AMX", ["amx_tile"]],
  ["AMX_BF16", ["amx_bf16"]],
  ["NEON", ["asimd", "hw.optional.neon"]],
  ["SVE", ["sve"]],
  ["BF16", ["bf16", "hw.optional.arm.FEAT_BF16"]],
];

/** CPU facts of Linux's /proc/cpuinfo. */
export function parseCpuinfo(text: string): { model?: string; physicalCores?: number; flags: Set<string> } {
  const field = (block: string, name: string) => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(block)?.[1]?.trim();
  const blocks = text.split(/\n\s*\n/).filter((block) => field(block, "processor") !== undefined);
  const cores = blocks.flatMap((block) => {
    const core = field(block, "core id");
    return core === undefined ? [] : [`${field(block, "physical id")}/${core}`];
  });
  return {
    model: field(text, "model name"),
    physicalCores: new Set(cores).size || undefined, // Arm's cpuinfo has no core numbers
    flags: new Set((field(text, "flags") ?? field(text, "Features") ?? "").split(/\s+/)),
  };
}

/** CPU facts of macOS's `sysctl`, lines of `name: value`; a flag counts when its value is 1. */
export function parseSysctl(text: string): { model?: string; physicalCores?: number; flags: Set<string> } {
  const values = new Map([...text.matchAll(/^([\w.]+): (.*)$/gm)].map((match) => [match[1]!, match[2]!]));
  const words = `${values.get("machdep.cpu.features") ?? ""} ${values.get("machdep.cpu.leaf7_features") ?? ""}`;
  const flags = new Set(words.toLowerCase().split(/\s+/));
  for (const [name, value] of values) if (value === "1") flags.add(name);
  return {
    model: values.get("machdep.cpu.brand_string"),
    physicalCores: Number(values.get("hw.physicalcpu")) || undefined,
    flags,
  };
}

export async function readCpu(): Promise<CpuInfo> {
  const facts =
    process.platform === "darwin"
      ? parseSysctl((await run("sysctl", ["machdep.cpu", "hw.physicalcpu", "hw.optional"])).stdout)
      : parseCpuinfo(readText("/proc/cpuinfo"));
  const logical = cpus().length;
  return {
    model: facts.model ?? cpus()[0]?.model ?? arch(),
    physical_cores: facts.physicalCores ?? logical,
    logical_cores: logical,
    usable_cores: availableParallelism(),
    instruction_sets: INSTRUCTION_SETS.filter(([, names]) => names.some((name) => facts.flags.has(name))).map(
      ([name]) => name,
    ),
  };
}

/** Bytes. `limit` is that of a container (cgroup), where there is one below the machine's memory. */
export function readMemory(): { total: number; available: number; limit?: number } {
  const total = totalmem();
  const limit = process.constrainedMemory();
  // freemem() on Linux is MemAvailable in Node 20, which counts caches that can be dropped
  return { total, available: freemem(), limit: limit && limit < total ? limit : undefined };
}

/** Name and memory of each NVIDIA GPU, by the driver's own tool. */
export async function readNvidia(): Promise<string[]> {
  const result = await run("nvidia-smi", ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]);
  return result.code === 0 ? result.stdout.trim().split("\n") : [];
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
