/** The CPU's attention kernel, compiled into a program that counts its products and watches its memory. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { compilerName } from "../../src/setup/toolchain.js";
import { nativePath } from "../bridge/support.js";

const source = fileURLToPath(new URL("check_attention.cc", import.meta.url));
const kernels = fileURLToPath(new URL("../../native/src/", import.meta.url));

it.skipIf(process.platform !== "linux")(
  "costs its window and not its length, stays within its scratch memory, and has an exact tanh",
  { timeout: 300_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "slimtune-attention-"));
    try {
      const { root } = JSON.parse(readFileSync(join(nativePath, "../libtorch.json"), "utf8"));
      const program = join(folder, "check");
      const avx2 = process.arch === "x64" ? ["-mavx2", "-mfma"] : [];
      const arithmetic = ["-O1", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", ...avx2];
      const flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsanitize=address", ...arithmetic];
      const includes = ["-I", kernels, "-isystem", join(root, "include")];
      execFileSync((await compilerName())!, [...flags, ...includes, "-o", program, source]);
      const output = execFileSync(program, { encoding: "utf8" });
      expect(output).toBe("attention reads and computes what it must, and no more\n");
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
