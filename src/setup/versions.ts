import { UserError } from "../support/errors.js";

/** The LibTorch that slimtune is developed against and downloads. */
export const PINNED_VERSION = "2.13.0";
/** The range that is compiled against when it is found. */
export const ACCEPTED_VERSIONS = "2.11 to 2.14";

export function isAcceptedVersion(version: string): boolean {
  const match = /^2\.(\d+)\.\d+$/.exec(version);
  return match !== null && Number(match[1]) >= 11 && Number(match[1]) <= 14;
}

/** Checks a variant as the user writes it: `cpu`, or `cu` and CUDA's version without the dot (`cu130`). */
export function checkVariant(variant: string): string {
  if (!/^(cpu|cu\d{3})$/.test(variant)) {
    throw new UserError(`--variant ${variant}: no such variant. Use cpu, or a CUDA version such as cu126 or cu130.`);
  }
  return variant;
}

export interface ZipSource {
  url: string;
  /** SHA-256 of the file, where it is known. */
  sha256?: string;
}

const HOST = "https://download.pytorch.org/libtorch";
/** The published archives of the pinned version; other variants are checked by their size and checksums inside. */
const SHA256: Record<string, string> = {
  "linux-x64-cpu": "edbf4cbed78433d803e90a65f1752e57783d164bce66c95c0872b2ab8f5c159e",
  "darwin-arm64-cpu": "1e10c6c4dc2764150c9fb2ad28e1889191302734e7f939108e5d2f22f21a06f8",
};

/** PyTorch's official archive for a platform (as in `process.platform` and `process.arch`), if there is one. */
export function officialZip(platform: string, arch: string, variant: string): ZipSource | undefined {
  const sha256 = SHA256[`${platform}-${arch}-${variant}`];
  if (platform === "linux" && arch === "x64") {
    return { url: `${HOST}/${variant}/libtorch-shared-with-deps-${PINNED_VERSION}%2B${variant}.zip`, sha256 };
  }
  if (platform === "darwin" && arch === "arm64" && variant === "cpu") {
    return { url: `${HOST}/cpu/libtorch-macos-arm64-${PINNED_VERSION}.zip`, sha256 };
  }
  return undefined;
}
