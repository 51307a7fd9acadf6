import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { temporaryFolder, writeScript } from "../../tests/setup/fakes.js";
import { checkToolchain } from "./toolchain.js";

let bin: string;
let env: NodeJS.ProcessEnv;
beforeEach(() => {
  bin = join(temporaryFolder(), "bin");
  mkdirSync(bin);
  env = { PATH: bin };
  return () => rmSync(join(bin, ".."), { recursive: true });
});

const tool = (name: string, version: string, otherwise = "exit 0") =>
  writeScript(join(bin, name), `if [ "$1" = --version ]; then echo "${version}"; exit 0; fi\n${otherwise}`);

test("each missing tool is one error that says what to type", async () => {
  await expect(checkToolchain(env)).rejects.toThrow(
    /^cmake was not found on the PATH.*apt-get install cmake\n.*dnf install cmake\n.*brew install cmake$/s,
  );
  tool("cmake", "cmake version 3.25.1");
  await expect(checkToolchain(env)).rejects.toThrow(/^Neither ninja nor make was found/);
  tool("make", "GNU Make 4.3");
  await expect(checkToolchain(env)).rejects.toThrow(
    /^no C\+\+ compiler was found on the PATH \(c\+\+, g\+\+, clang\+\+\).*apt-get install g\+\+.*xcode-select --install$/s,
  );
  tool("g++", "g++ 9.4.0", "exit 1");
  await expect(checkToolchain(env)).rejects.toThrow(/^g\+\+ \(g\+\+ 9\.4\.0\) does not compile C\+\+20/);
  await expect(checkToolchain({ ...env, CXX: "g++-99" })).rejects.toThrow(/^CXX=g\+\+-99 does not run/);
  tool("g++-12", "g++-12 12.2.0");
  expect(await checkToolchain({ ...env, CXX: "g++-12" })).toEqual({
    cmake: "cmake version 3.25.1",
    generator: "Unix Makefiles",
    compiler: "g++-12 12.2.0",
  });
  tool("ninja", "1.11.1");
  tool("c++", "c++ 13");
  expect(await checkToolchain(env)).toMatchObject({ generator: "Ninja", compiler: "c++ 13" });
});

test("the tools of this machine pass", async () => {
  expect((await checkToolchain()).cmake).toMatch(/^cmake version \d/);
});
