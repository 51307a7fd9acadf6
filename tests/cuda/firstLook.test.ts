/** What LibTorch finds when it first looks for a GPU it remembers: a run on the CPU must not take the GPU from the next. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { compilerName } from "../../src/setup/toolchain.js";
import { nativePath } from "../bridge/support.js";

const gpu = vi.hoisted(() => ({ driver: "", libraries: [] as string[] }));
vi.mock("../../src/nativeModule/cuda.js", () => ({
  get NVIDIA_DRIVER() {
    return gpu.driver;
  },
  cudaLibraries: () => gpu.libraries,
}));

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-first-look-"));
  const { root } = JSON.parse(readFileSync(join(nativePath, "../libtorch.json"), "utf8"));
  const compile = async (name: string, ...args: string[]) => {
    const library = join(folder, name);
    execFileSync((await compilerName())!, ["-std=c++20", "-shared", "-fPIC", "-o", library, ...args]);
    return library;
  };
  writeFileSync(join(folder, "empty.cc"), "");
  gpu.driver = await compile("driver.so", join(folder, "empty.cc"));
  const source = fileURLToPath(new URL("stub_hooks.cc", import.meta.url));
  const linked = ["-L", join(root, "lib"), "-ltorch_cpu", "-lc10"];
  gpu.libraries = [await compile("hooks.so", source, "-isystem", join(root, "include"), ...linked)];
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

describe.skipIf(process.platform !== "linux")("a GPU", () => {
  it("is found after a run on the CPU, which seeds the generators of all devices", async () => {
    const { chooseDevice, flush, manualSeed } = await import("../../src/torch/index.js");
    expect(chooseDevice(true)).toBe("cpu");
    manualSeed(1);
    await flush();
    expect(chooseDevice(false)).toBe("cuda:0");
  });
});

describe("libraries that do not load", () => {
  it("are no matter on the CPU, and a clear error for a GPU", async () => {
    vi.resetModules();
    gpu.libraries = [join(folder, "missing.so")];
    const { chooseDevice, flush, manualSeed } = await import("../../src/torch/index.js");
    expect(chooseDevice(true)).toBe("cpu");
    manualSeed(1);
    await flush();
    expect(() => chooseDevice(false)).toThrow(
      /^use_cpu: there is an NVIDIA driver, but the GPU cannot be used: loadLibrary: .*missing\.so.*doctor, or set use_cpu/,
    );
  });

  it("are not even tried where there is no driver", async () => {
    vi.resetModules();
    gpu.driver = join(folder, "no-driver.so");
    const torch = await import("../../src/torch/index.js");
    torch.loadNative();
    const { whyNoGpu } = await import("../../src/torch/native.js");
    expect(whyNoGpu()).toBe(undefined);
  });
});
