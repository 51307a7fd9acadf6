/**
 * The CUDA kernels compute the right thing: compiled for the CPU with a stand-in for CUDA's runtime, against float64.
 * That they are fast, and what only a GPU can show, is for tests/cuda/gpu.test.ts.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { compilerName } from "../../src/setup/toolchain.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const source = fileURLToPath(new URL("../../native/cuda/", import.meta.url));
const cpu = fileURLToPath(new URL("../../native/src/", import.meta.url));

it.skipIf(process.platform !== "linux")("the kernels agree with their formulas", { timeout: 300_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-kernels-"));
  try {
    const program = join(folder, "check");
    const kernels = readdirSync(source).filter((file) => file.endsWith(".cu"));
    expect(kernels.length).toBeGreaterThan(3);
    const sources = [
      ...["check_kernels.cc", "check_optimizers.cc"].map((file) => join(here, file)),
      ...kernels.map((file) => join(source, file)),
      ...["optimizer_rules.cc", "torch_adamw.cc", "dynamic_map.cc"].map((file) => join(cpu, file)),
    ];
    const warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]; // CUDA's pragmas
    const flags = ["-std=c++20", "-O1", "-ffp-contract=off", ...warnings, "-I", join(here, "emulator"), "-I", source];
    execFileSync((await compilerName())!, [...flags, "-o", program, "-x", "c++", ...sources]);
    expect(execFileSync(program, { encoding: "utf8" })).toBe("all kernels agree\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
