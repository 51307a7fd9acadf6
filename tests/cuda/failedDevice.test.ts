/** A device that has failed does not take the process with it when its memory is given back. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { compilerName } from "../../src/setup/toolchain.js";
import { nativePath } from "../bridge/support.js";

const source = fileURLToPath(new URL("stub_device.cc", import.meta.url));
const PAGES = `
  const [addon, library] = process.argv.slice(1);
  const native = require(addon);
  native.loadLibrary(library);
  const pages = native.createDevicePages("failing:0", [0, 4096, 8192]);
  native.pagingStats(pages).catch((error) => {
    console.log(error.message);
    native.closePages(pages);
    console.log("closed");
  });`;

it.skipIf(process.platform !== "linux")("the pages of an optimizer on it", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-failed-device-"));
  try {
    const { root } = JSON.parse(readFileSync(join(nativePath, "../libtorch.json"), "utf8"));
    const library = join(folder, "stub.so");
    const include = ["include", "include/torch/csrc/api/include"].flatMap((part) => ["-isystem", join(root, part)]);
    const flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", ...include];
    const libraries = ["-L", join(root, "lib"), "-ltorch_cpu", "-lc10"];
    execFileSync((await compilerName())!, [...flags, "-o", library, source, ...libraries]);
    const output = execFileSync(process.execPath, ["-e", PAGES, nativePath, library], { encoding: "utf8" });
    expect(output).toBe("pagingStats: the device has failed (inputs: )\nclosed\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
