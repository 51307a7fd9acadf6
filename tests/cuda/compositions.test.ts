/** What a GPU computes where slimtune has no kernel of its own for it: the compositions of LibTorch's ops. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { compilerName } from "../../src/setup/toolchain.js";
import { nativePath } from "../bridge/support.js";

const sources = ["check_compositions.cc", "check_stages.cc", "check_attention.cc"].map((name) =>
  fileURLToPath(new URL(name, import.meta.url)),
);
const LOAD = "require(process.argv[1]).loadLibrary(process.argv[2])";

it.skipIf(process.platform !== "linux")("compositions agree with the kernels", { timeout: 300_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-compositions-"));
  try {
    const { root } = JSON.parse(readFileSync(join(nativePath, "../libtorch.json"), "utf8"));
    const library = join(folder, "check.so");
    const include = ["include", "include/torch/csrc/api/include"].flatMap((part) => ["-isystem", join(root, part)]);
    const avx2 = process.arch === "x64" ? ["-mavx2", "-mfma"] : [];
    const arithmetic = ["-O1", "-fopenmp-simd", "-fno-math-errno", "-ffp-contract=off", ...avx2];
    const flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", ...arithmetic, ...include];
    const libraries = ["-L", join(root, "lib"), "-ltorch_cpu", "-lc10"];
    execFileSync((await compilerName())!, [...flags, "-o", library, ...sources, ...libraries]);
    const output = execFileSync(process.execPath, ["-e", LOAD, nativePath, library], { encoding: "utf8" });
    expect(output).toBe("all compositions agree\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
