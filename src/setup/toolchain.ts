import { UserError } from "../support/errors.js";
import { lastLine, run } from "./exec.js";

/** The C++ compilers that CMake would take, in its order; `CXX` overrides. */
const COMPILERS = ["c++", "g++", "clang++"];
/** Uses of the language and of the library that LibTorch's headers make. */
const CXX20_PROBE =
  "#include <concepts>\n#include <span>\ntemplate <std::integral T> T f(std::span<T> s) { return s[0]; }\n";

/** What to type for a missing tool, on the systems that most people have. */
export function installHint(debian: string, fedora: string, macos: string): string {
  return `Install it:\n  Debian, Ubuntu:  sudo apt-get install ${debian}\n  Fedora:          sudo dnf install ${fedora}\n  macOS:           ${macos}`;
}

const COMPILER_HINT = installHint("g++ make", "gcc-c++ make", "xcode-select --install");
const CMAKE_HINT = installHint("cmake", "cmake", "brew install cmake");
export const PIP_HINT = installHint("python3-pip", "python3-pip", "brew install python3");

export interface Toolchain {
  cmake: string;
  /** CMake's name for the build tool. */
  generator: "Ninja" | "Unix Makefiles";
  compiler: string;
}

/**
 * Checks what the build needs before it starts: CMake, Ninja or make, and a compiler that has C++20.
 * @throws UserError that says what to install
 */
export async function checkToolchain(env: NodeJS.ProcessEnv = process.env): Promise<Toolchain> {
  const cmake = await versionOf("cmake", env);
  if (!cmake)
    throw new UserError(`cmake was not found on the PATH; slimtune builds its native part with it. ${CMAKE_HINT}`);
  const generator = (await versionOf("ninja", env)) ? "Ninja" : "Unix Makefiles";
  if (generator !== "Ninja" && !(await versionOf("make", env))) {
    throw new UserError(
      `Neither ninja nor make was found on the PATH. ${installHint("make", "make", "xcode-select --install")}`,
    );
  }
  const name = await compilerName(env);
  if (!name) {
    const what = env.CXX
      ? `CXX=${env.CXX} does not run`
      : `no C++ compiler was found on the PATH (${COMPILERS.join(", ")})`;
    throw new UserError(`${what}; slimtune builds its native part with one. ${COMPILER_HINT}`);
  }
  const probe = await run(name, ["-std=c++20", "-fsyntax-only", "-x", "c++", "-"], { env, input: CXX20_PROBE });
  const compiler = (await versionOf(name, env)) ?? name;
  if (probe.code !== 0) {
    throw new UserError(
      `${name} (${compiler}) does not compile C++20, which LibTorch's headers need: GCC 11, Clang 14 or newer do. ` +
        `If another one is installed, name it: CXX=g++-12 npx slimtune setup --force. ${COMPILER_HINT}`,
    );
  }
  return { cmake, generator, compiler };
}

/** First line of `<tool> --version`, undefined if it does not run. */
export async function versionOf(tool: string, env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const { code, stdout } = await run(tool, ["--version"], { env });
  return code === 0 ? lastLine(stdout.trim().split("\n")[0] ?? "") : undefined;
}

export async function compilerName(env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  for (const name of env.CXX ? [env.CXX] : COMPILERS) if (await versionOf(name, env)) return name;
  return undefined;
}
