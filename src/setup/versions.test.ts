import { expect, test } from "vitest";
import { checkVariant, isAcceptedVersion, officialZip } from "./versions.js";

test.each(["2.11.0", "2.12.1", "2.13.0", "2.14.1"])("%s is accepted", (version) => {
  expect(isAcceptedVersion(version)).toBe(true);
});

test.each(["2.10.9", "2.15.0", "1.13.0", "3.12.0", "2.1.1", "..", "2.13"])("%s is not accepted", (version) => {
  expect(isAcceptedVersion(version)).toBe(false);
});

test("a variant is cpu or a CUDA version", () => {
  expect(checkVariant("cu130")).toBe("cu130");
  expect(() => checkVariant("cuda")).toThrow(
    /--variant cuda: no such variant. Use cpu, or a CUDA version such as cu126/,
  );
  expect(() => checkVariant("../cpu")).toThrow(/no such variant/);
});

test("the official archive of each platform", () => {
  expect(officialZip("linux", "x64", "cpu")?.url).toBe(
    "https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-2.13.0%2Bcpu.zip",
  );
  expect(officialZip("linux", "x64", "cu126")?.url).toBe(
    "https://download.pytorch.org/libtorch/cu126/libtorch-shared-with-deps-2.13.0%2Bcu126.zip",
  );
  expect(officialZip("darwin", "arm64", "cpu")?.url).toBe(
    "https://download.pytorch.org/libtorch/cpu/libtorch-macos-arm64-2.13.0.zip",
  );
  expect(officialZip("darwin", "arm64", "cu130")).toBeUndefined();
  expect(officialZip("linux", "arm64", "cpu")).toBeUndefined();
});
