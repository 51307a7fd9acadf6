import { existsSync } from "node:fs";
import { join } from "node:path";
import type { NativePaths } from "./paths.js";
import { readRecord } from "./record.js";

/** Of the driver; where it does not load there is no GPU. */
export const NVIDIA_DRIVER = "libcuda.so.1";

/** Whether the kernel has NVIDIA's driver, whatever LibTorch is built for. */
export const hasNvidiaDriver = (): boolean => existsSync("/proc/driver/nvidia/version");

/** What to load for a GPU, in order: LibTorch's CUDA library, and the native module's own where it was built. */
export function cudaLibraries(paths: NativePaths): string[] {
  const record = readRecord(paths);
  if (!record?.variant.startsWith("cu")) return [];
  return [join(record.root, "lib", "libtorch_cuda.so"), paths.kernels].filter((file) => existsSync(file));
}
