import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { fakePython, libtorchFiles, temporaryFolder, writeScript, writeTree } from "../../tests/setup/fakes.js";
import { UserError } from "../support/errors.js";
import { findLibtorch } from "./find.js";

let folder: string;
let env: NodeJS.ProcessEnv;

function torchAt(name: string, version = "2.13.0", label = `${version}+cpu`): string {
  return writeTree(join(folder, name), libtorchFiles(version, label));
}

beforeEach(() => {
  folder = temporaryFolder();
  mkdirSync(join(folder, "bin"));
  env = { PATH: join(folder, "bin"), SLIMTUNE_CACHE: join(folder, "cache") };
  return () => rmSync(folder, { recursive: true });
});

test("every place is taken in its order, when those before it have nothing", async () => {
  const places = {
    "--libtorch": torchAt("option"),
    LIBTORCH: torchAt("env"),
    venv: torchAt("venv/torch"),
    conda: torchAt("conda/torch"),
    python3: torchAt("python3/torch"),
    python: torchAt("python/torch"),
    cache: torchAt("cache/libtorch/2.13.0-cpu/torch"),
  };
  const bin = (name: string) => join(folder, name, "bin/python");
  fakePython(bin("venv"), { torch: places.venv });
  fakePython(bin("conda"), { torch: places.conda });
  fakePython(join(folder, "bin/python3"), { torch: places.python3 });
  fakePython(join(folder, "bin/python"), { torch: places.python });
  Object.assign(env, {
    LIBTORCH: places.LIBTORCH,
    VIRTUAL_ENV: join(folder, "venv"),
    CONDA_PREFIX: join(folder, "conda"),
  });

  const find = async (libtorch?: string) => (await findLibtorch({ libtorch, env })).found?.libtorch.root;
  expect(await find(places["--libtorch"])).toBe(places["--libtorch"]);
  expect(await find()).toBe(places.LIBTORCH);
  delete env.LIBTORCH;
  expect(await find()).toBe(places.venv);
  fakePython(bin("venv"), { torch: null });
  expect(await find()).toBe(places.conda);
  delete env.CONDA_PREFIX;
  expect(await find()).toBe(places.python3);
  rmSync(join(folder, "bin/python3"));
  expect(await find()).toBe(places.python);
  rmSync(join(folder, "bin/python"));
  expect(await find()).toBe(places.cache);
  rmSync(places.cache, { recursive: true });
  expect(await find()).toBeUndefined();
});

test.each(["--libtorch", "LIBTORCH"])("a bad folder in %s is an error, not passed over", async (option) => {
  torchAt("cache/libtorch/2.13.0-cpu/torch");
  const bad = torchAt("old", "2.9.0");
  const request = option === "LIBTORCH" ? { env: { ...env, LIBTORCH: bad } } : { env, libtorch: bad };
  const error = await findLibtorch(request).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(UserError);
  expect((error as Error).message).toContain(`${option} ${bad}: ${bad} is version 2.9.0; 2.11 to 2.14 are supported.`);
});

test("what is passed over is listed with its reason", async () => {
  fakePython(join(folder, "bin/python3"), { torch: torchAt("old/torch", "2.10.0") });
  writeScript(join(folder, "bin/python"), "echo 'something: broken' >&2; exit 3");
  const { found, attempts } = await findLibtorch({ env });
  expect(found).toBeUndefined();
  expect(attempts.map(({ where, reason }) => `${where} | ${reason}`)).toEqual([
    "--libtorch and LIBTORCH | not given",
    `python3 3.12.1 (${join(folder, "bin/python3")}) | ${join(folder, "old/torch")} is version 2.10.0; 2.11 to 2.14 are supported`,
    "python | failed: something: broken",
    `cache ${join(folder, "cache/libtorch")} | has no LibTorch`,
  ]);
});

test("two names of one Python are asked about once", async () => {
  fakePython(join(folder, "bin/python3"), { torch: null });
  rmSync(join(folder, "bin/python"), { force: true });
  writeScript(join(folder, "bin/python"), `exec ${join(folder, "bin/python3")} "$@"`);
  const { attempts } = await findLibtorch({ env });
  expect(attempts.filter(({ reason }) => reason === "it has no torch package")).toHaveLength(1);
});

test("only the variant that is asked for will do; the cache prefers the pinned version", async () => {
  const cache = (name: string, label: string) => torchAt(`cache/libtorch/${name}/torch`, name.split("-")[0], label);
  fakePython(join(folder, "bin/python3"), { torch: torchAt("py/torch") });
  cache("2.14.0-cpu", "2.14.0+cpu");
  const pinned = cache("2.13.0-cu130", "2.13.0+cu130");
  const found = await findLibtorch({ env, variant: "cu130" });
  expect(found.found?.libtorch).toEqual({ root: pinned, version: "2.13.0", variant: "cu130" });
  expect(found.attempts.map(({ reason }) => reason)).toContain(
    `${join(folder, "py/torch")} is the cpu variant, and cu130 is asked for`,
  );
  rmSync(join(folder, "bin/python3"));
  expect((await findLibtorch({ env })).found?.libtorch.root).toBe(pinned);
});
