import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { fakeOutput, libtorchFiles, temporaryFolder, writeTree } from "../../tests/setup/fakes.js";
import { type NativePaths, nativePaths } from "../nativeModule/paths.js";
import { examineSystem } from "./doctor.js";
import { formatReport } from "./report.js";
import { runSetup } from "./setup.js";

const CMAKE = `cmake_minimum_required(VERSION 3.18)
project(slimtune LANGUAGES CXX)
if(NOT LIBTORCH OR NOT NODE_ADDON_API_DIR)
  message(FATAL_ERROR "missing")
endif()
add_library(slimtune MODULE src/addon.cc)
set_target_properties(slimtune PROPERTIES PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY \${CMAKE_BINARY_DIR})
target_include_directories(slimtune PRIVATE \${NODE_API_HEADERS_DIR})
if(APPLE)
  target_link_options(slimtune PRIVATE -undefined dynamic_lookup)
endif()
`;
/** An addon whose engineInfo() runs `body`. */
const addon = (body: string) => `#include <node_api.h>
#include <cstdlib>
static napi_value info(napi_env env, napi_callback_info) { napi_value result; ${body} return result; }
NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "engineInfo", NAPI_AUTO_LENGTH, info, nullptr, &function);
  napi_set_named_property(env, exports, "engineInfo", function);
  return exports;
}
`;
const GOOD = addon(`napi_value script; napi_create_string_utf8(env,
  "({torch_version: '2.13.0', threads: 3, cpu_capability: 'AVX2', devices: ['cpu']})", NAPI_AUTO_LENGTH, &script);
  napi_run_script(env, script, &result);`);

let folder: string;
let paths: NativePaths;
let env: NodeJS.ProcessEnv;
let torch: string;

beforeEach(() => {
  folder = temporaryFolder();
  paths = nativePaths(join(folder, "native"));
  writeTree(paths.source, { "CMakeLists.txt": CMAKE, "src/addon.cc": GOOD });
  torch = writeTree(join(folder, "torch"), libtorchFiles("2.13.0"));
  env = { ...process.env, LIBTORCH: torch, SLIMTUNE_CACHE: join(folder, "cache") };
  return () => rmSync(folder, { recursive: true });
});

/** Runs set-up; returns what it said. */
async function setup(options: Parameters<typeof runSetup>[0] = {}): Promise<string> {
  const out = fakeOutput();
  await runSetup({ env, paths, out, jobs: 1, ...options });
  return out.text;
}
const built = /Built .*slimtune\.node/;

test("builds once, and again only when something that goes into the addon has changed", async () => {
  expect(await setup()).toMatch(built);
  expect(JSON.parse(readFileSync(paths.record, "utf8"))).toMatchObject({
    root: torch,
    version: "2.13.0",
    variant: "cpu",
    how: "LIBTORCH",
  });
  expect(await setup()).toBe(`Ready: LibTorch 2.13.0 (cpu) in ${torch}\n`);
  delete env.LIBTORCH; // a choice once made stays
  expect(await setup()).toBe(`Ready: LibTorch 2.13.0 (cpu) in ${torch}\n`);

  appendFileSync(join(paths.source, "src/addon.cc"), "// changed\n");
  expect(await setup()).toMatch(built);
  rmSync(paths.addon);
  env.LIBTORCH = torch;
  expect(await setup()).toMatch(built);
  expect(await setup({ force: true })).toMatch(built);
  const other = writeTree(join(folder, "other"), libtorchFiles("2.14.0"));
  expect(await setup({ libtorch: other })).toMatch(/LibTorch 2\.14\.0 \(cpu\): .*other \(--libtorch\)/);
});

test("two at once: one builds, the other waits and takes what is there", async () => {
  const said = await Promise.all([setup(), setup()]);
  expect(said.filter((text) => built.test(text))).toHaveLength(1);
  expect(said.filter((text) => /^Waiting for another set-up \(process \d+/.test(text))).toHaveLength(1);
});

describe("a failed build", () => {
  test("shows the last 30 lines of the log and leaves no record", async () => {
    await setup();
    writeFileSync(join(paths.source, "src/addon.cc"), `${"#warning a line\n".repeat(40)}#error this is why\n`);
    const error = (await setup().catch((caught: unknown) => caught)) as Error;
    expect(error.name).toBe("UserError");
    expect(error.message).toContain(`the native bridge did not compile. The last lines of ${paths.log}:`);
    expect(error.message).toContain("this is why");
    expect(error.message.split("\n").length).toBeLessThan(36);
    expect(existsSync(paths.record)).toBe(false);
    writeFileSync(join(paths.source, "src/addon.cc"), GOOD);
    expect(await setup()).toMatch(built);
  });

  test("is one that does not load, too", async () => {
    writeFileSync(join(paths.source, "src/addon.cc"), `extern int absent(); int x = absent();`);
    await expect(setup()).rejects.toThrow(/was built but does not load: .*undefined symbol|symbol not found/);
  });

  test("in the configuration is not remembered", async () => {
    writeFileSync(join(paths.source, "CMakeLists.txt"), "nonsense(");
    await expect(setup()).rejects.toThrow(/cmake could not configure the native bridge/);
    writeFileSync(join(paths.source, "CMakeLists.txt"), CMAKE);
    expect(await setup()).toMatch(built);
  });
});

test("a missing tool is said before anything is fetched", async () => {
  env = { PATH: join(folder, "nothing"), SLIMTUNE_CACHE: join(folder, "cache") };
  await expect(setup()).rejects.toThrow(/^cmake was not found on the PATH/);
  expect(existsSync(join(folder, "cache"))).toBe(false);
});

test("a bad option is refused before anything is done", async () => {
  await expect(setup({ variant: "gpu" })).rejects.toThrow(/--variant gpu: no such variant/);
  await expect(setup({ libtorch: join(folder, "nowhere") })).rejects.toThrow(
    /--libtorch .*nowhere has no lib\/libtorch_cpu/,
  );
});

describe("the doctor", () => {
  const examine = () => examineSystem(env, paths);

  test("sees nothing built, and which LibTorch set-up would take", async () => {
    const report = await examine();
    expect(report).toMatchObject({ ready: false, engine: null, addon: { built: false, loads: false } });
    expect(report.libtorch).toMatchObject({ root: torch, how: "LIBTORCH", built_against: false });
    expect(formatReport(report)).toMatch(/Native bridge {5}not built\n.*Not ready\. Run: npx slimtune setup$/s);
  });

  test("reports what the engine says", async () => {
    await setup();
    const report = await examine();
    expect(report).toMatchObject({ ready: true, addon: { up_to_date: true, loads: true }, engine: { threads: 3 } });
    expect(formatReport(report)).toMatch(
      /Engine {12}LibTorch 2\.13\.0, kernels for AVX2\nDevices {11}cpu\nThreads {11}3\n.*Ready\.$/s,
    );
    appendFileSync(join(paths.source, "src/addon.cc"), "// changed\n");
    expect(formatReport(await examine())).toMatch(/loads, but is not of these sources/);
  });

  test("survives an addon that is not one, one that crashes and a LibTorch that is gone", async () => {
    await setup();
    writeFileSync(paths.addon, "not a library");
    expect((await examine()).addon).toMatchObject({ built: true, loads: false, reason: expect.stringMatching(/./) });
    writeFileSync(join(paths.source, "src/addon.cc"), addon("std::abort();"));
    await setup();
    const report = await examine();
    expect(report.addon.reason).toMatch(/engineInfo\(\) fails: killed by SIGABRT/);
    expect(formatReport(report)).toMatch(/Not ready\. Run: npx slimtune setup --force$/);
    rmSync(torch, { recursive: true });
    expect((await examine()).libtorch_attempts).toMatchObject([{ where: "the LibTorch of the last build" }]);
  });
});
