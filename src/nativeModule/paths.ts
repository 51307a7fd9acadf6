import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's root: two folders above this file, both in `src/` and in `dist/`. */
export const PACKAGE_ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** slimtune's own version. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(PACKAGE_ROOT, "package.json"), "utf8")) as { version: string }).version;
}

export interface NativePaths {
  /** C++ sources with their CMakeLists.txt. */
  source: string;
  build: string;
  addon: string;
  /** The kernels for NVIDIA GPUs; there only where CUDA's compiler was at the build. */
  kernels: string;
  /** What the addon was built from and against (see BuildRecord). */
  record: string;
  log: string;
  lock: string;
}

export function nativePaths(source = join(PACKAGE_ROOT, "native")): NativePaths {
  const build = join(source, "build");
  return {
    source,
    build,
    addon: join(build, "slimtune.node"),
    kernels: join(build, "slimtune_cuda.so"),
    record: join(build, "libtorch.json"),
    log: join(build, "setup.log"),
    lock: join(build, ".lock"),
  };
}
