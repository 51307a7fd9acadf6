/** What the CPU's instruction set can do that LibTorch does not say. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { platform } from "node:os";

/** Whether bf16 matrix products run in hardware (AVX512_BF16, AMX_BF16, or Arm's BF16). */
export function hasBf16Instructions(): boolean {
  try {
    if (platform() === "linux") {
      return /^(flags|Features)\s*:.*\b(avx512_bf16|amx_bf16|bf16)\b/m.test(readFileSync("/proc/cpuinfo", "utf8"));
    }
    if (platform() === "darwin") {
      return execFileSync("sysctl", ["-n", "hw.optional.arm.FEAT_BF16"], { encoding: "utf8" }).trim() === "1";
    }
  } catch {
    // unknown: float32 arithmetic is right everywhere
  }
  return false;
}
