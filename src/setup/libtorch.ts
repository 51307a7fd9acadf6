import { existsSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Libtorch } from "../nativeModule/record.js";
import { run } from "./exec.js";
import { ACCEPTED_VERSIONS, isAcceptedVersion } from "./versions.js";

export type Inspected = { libtorch: Libtorch; reason?: undefined } | { libtorch?: undefined; reason: string };

const LIBRARY = process.platform === "darwin" ? "dylib" : "so";
const NEEDED = [
  `lib/libtorch_cpu.${LIBRARY}`,
  `lib/libc10.${LIBRARY}`,
  "include/ATen/core/dispatch/Dispatcher.h",
  "include/torch/csrc/api/include/torch/version.h",
];
const VERSION_HEADERS = ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];

/**
 * Looks whether a folder is a usable LibTorch, in the layout of PyTorch's zip (`libtorch/`) or of a Python wheel
 * (`torch/`); the folder above either will do too. Reads a few small files, loads nothing.
 */
export function inspectLibtorch(folder: string): Inspected {
  const base = resolve(folder);
  const root = [base, join(base, "libtorch"), join(base, "torch")].find((at) => existsSync(join(at, NEEDED[0]!)));
  if (!root) return { reason: `${base} has no ${NEEDED[0]}` };
  for (const file of NEEDED) {
    if (!(statSync(join(root, file), { throwIfNoEntry: false })?.size ?? 0)) {
      return { reason: `${root} is not complete: ${file} is missing or empty` };
    }
  }
  const header = VERSION_HEADERS.map((file) => read(join(root, file))).join("\n");
  const version = ["MAJOR", "MINOR", "PATCH"]
    .map((part) => new RegExp(`^#define TORCH_VERSION_${part} (\\d+)`, "m").exec(header)?.[1])
    .join(".");
  const label = readLabel(root);
  if (label && label.version !== version) {
    return { reason: `${root} is a mixture: its headers are ${version}, its libraries ${label.version}` };
  }
  if (!isAcceptedVersion(version))
    return { reason: `${root} is version ${version}; ${ACCEPTED_VERSIONS} are supported` };
  return { libtorch: { root, version, variant: readVariant(root, label?.suffix) } };
}

/** `2.13.0+cpu` from the zip's `build-version` or the wheel's `version.py`. */
function readLabel(root: string): { version: string; suffix?: string } | undefined {
  const python = /^__version__ = ['"]([^'"]+)['"]/m.exec(read(join(root, "version.py")))?.[1];
  const label = /^(\d+\.\d+\.\d+)(?:\+(.+))?$/.exec(python ?? read(join(root, "build-version")).trim());
  return label ? { version: label[1]!, suffix: label[2] } : undefined;
}

/** The label says which CUDA; the libraries say whether it is there at all (a wheel can be unpacked without it). */
function readVariant(root: string, suffix: string | undefined): string {
  const has = (name: string) => existsSync(join(root, "lib", `lib${name}.${LIBRARY}`));
  if (has("torch_cuda")) {
    const cuda = /^cuda\b.*= ['"](\d+)\.(\d+)/m.exec(read(join(root, "version.py")));
    return suffix?.startsWith("cu") ? suffix : cuda ? `cu${cuda[1]}${cuda[2]}` : "cuda";
  }
  if (has("torch_hip")) return suffix?.startsWith("rocm") ? suffix : "rocm";
  return "cpu";
}

/**
 * Shared libraries that the dynamic linker cannot find for a LibTorch (Linux; elsewhere always none).
 * NVIDIA's driver is left out: it is no part of LibTorch, and a machine without a GPU has none.
 */
export async function missingLibraries(libtorch: Libtorch): Promise<string[]> {
  if (process.platform !== "linux") return [];
  const names = libtorch.variant === "cpu" ? ["torch_cpu"] : ["torch_cpu", "torch_cuda", "torch_hip"];
  const files = names.map((name) => join(libtorch.root, "lib", `lib${name}.so`)).filter((file) => existsSync(file));
  const { stdout } = await run("ldd", files);
  const missing = [...stdout.matchAll(/^\s*(\S+) => not found/gm)].map((match) => match[1]!);
  return [...new Set(missing)].filter((name) => !/^lib(cuda|nvidia-ml)\.so/.test(name));
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // each layout has only some of the files
  }
}
