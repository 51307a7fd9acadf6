import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { libtorchFiles, temporaryFolder, writeTree } from "../../tests/setup/fakes.js";
import { inspectLibtorch, missingLibraries } from "./libtorch.js";

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
  return () => rmSync(folder, { recursive: true });
});

describe("a LibTorch is recognised", () => {
  test.each([
    ["wheel", "torch"],
    ["zip", "libtorch"],
  ] as const)("in the layout of the %s, by its own folder and by the one above", (layout, name) => {
    const root = join(folder, name);
    writeTree(root, libtorchFiles("2.13.0", "2.13.0+cpu", layout));
    const expected = { libtorch: { root, version: "2.13.0", variant: "cpu" } };
    expect(inspectLibtorch(root)).toEqual(expected);
    expect(inspectLibtorch(folder)).toEqual(expected);
  });

  test("with CUDA, named by its label or by version.py", () => {
    writeTree(folder, libtorchFiles("2.12.0", "2.12.0+cu126"));
    expect(inspectLibtorch(folder).libtorch?.variant).toBe("cu126");
    writeFileSync(join(folder, "version.py"), "__version__ = '2.12.0'\ncuda: Optional[str] = '13.0'\n");
    expect(inspectLibtorch(folder).libtorch?.variant).toBe("cu130");
  });

  test("as cpu when its CUDA part was left out", () => {
    writeTree(folder, libtorchFiles("2.13.0", "2.13.0+cu130"));
    for (const extension of ["so", "dylib"]) rmSync(join(folder, `lib/libtorch_cuda.${extension}`), { force: true });
    expect(inspectLibtorch(folder).libtorch?.variant).toBe("cpu");
  });
});

describe("a reason is given when", () => {
  test("it is no LibTorch", () => {
    expect(inspectLibtorch(folder).reason).toMatch(/has no lib\/libtorch_cpu/);
  });

  test.each(Object.keys(libtorchFiles("2.13.0")).filter((file) => !/headeronly|version\.py|torch_cpu/.test(file)))(
    "%s is empty",
    (file) => {
      writeTree(folder, { ...libtorchFiles("2.13.0"), [file]: "" });
      expect(inspectLibtorch(folder).reason).toBe(`${folder} is not complete: ${file} is missing or empty`);
    },
  );

  test("its version is not supported", () => {
    writeTree(folder, libtorchFiles("2.15.0"));
    expect(inspectLibtorch(folder).reason).toMatch(/is version 2\.15\.0; 2\.11 to 2\.14 are supported/);
  });

  test("headers and libraries are of different versions", () => {
    writeTree(folder, libtorchFiles("2.13.0", "2.12.0+cpu"));
    expect(inspectLibtorch(folder).reason).toMatch(/mixture: its headers are 2\.13\.0, its libraries 2\.12\.0/);
  });
});

test.runIf(process.platform === "linux")("libraries that the system lacks are named", async () => {
  writeTree(folder, libtorchFiles("2.13.0"));
  const cc = (args: string[]) => execFileSync("c++", ["-shared", "-x", "c++", "/dev/null", "-o", ...args]);
  cc([join(folder, "libslimtune_absent.so"), "-Wl,-soname,libslimtune_absent.so.7"]);
  cc([join(folder, "lib/libtorch_cpu.so"), "-x", "none", "-Wl,--no-as-needed", join(folder, "libslimtune_absent.so")]);
  const { libtorch } = inspectLibtorch(folder);
  expect(await missingLibraries(libtorch!)).toEqual(["libslimtune_absent.so.7"]);
});
