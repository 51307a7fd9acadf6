import { spawn } from "node:child_process";
import { createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import type { NativePaths } from "../nativeModule/paths.js";
import { writeRecord } from "../nativeModule/record.js";
import { UserError } from "../support/errors.js";
import { createMeter, formatSeconds, type Output } from "../support/meter.js";
import { buildHash, nodeHeaders } from "./buildHash.js";
import { lastLine, run } from "./exec.js";
import type { Found } from "./find.js";
import type { Toolchain } from "./toolchain.js";

export interface BuildOptions {
  toolchain: Toolchain;
  jobs?: number;
  /** Throw the build folder away first. */
  force?: boolean;
  env: NodeJS.ProcessEnv;
  out: Output;
}

/** A file that includes LibTorch's headers takes up to this much memory to compile. */
const MEMORY_PER_JOB = 2 * 1024 ** 3;
const LOG_TAIL = 30;

/**
 * Compiles the addon against a LibTorch, tries whether it loads, and writes the record. The compilers' output goes to
 * the log file.
 * @throws UserError with the end of the log
 */
export async function buildNative(found: Found, paths: NativePaths, options: BuildOptions): Promise<void> {
  const { libtorch, how } = found;
  const { out, env, toolchain } = options;
  const jobs = options.jobs ?? Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / MEMORY_PER_JOB)));
  const start = Date.now();
  rmSync(paths.record, { force: true }); // until the end of this build there is no valid addon
  if (options.force || !matchesCache(paths, toolchain)) clean(paths);
  mkdirSync(paths.build, { recursive: true });
  out.write(
    `Building the native bridge against LibTorch ${libtorch.version} (${libtorch.variant}), ${jobs} at a time; log: ${paths.log}\n`,
  );

  const hash = buildHash(paths, libtorch);
  const { addonApi, nodeApi } = nodeHeaders();
  const configure = [
    ["-S", paths.source, "-B", paths.build, "-G", toolchain.generator, "-DCMAKE_BUILD_TYPE=Release"],
    [`-DLIBTORCH=${libtorch.root}`, `-DNODE_ADDON_API_DIR=${addonApi}`, `-DNODE_API_HEADERS_DIR=${nodeApi}`],
    ["-UTORCH_*"], // library paths that CMake remembers from another LibTorch
  ].flat();
  const log = createWriteStream(paths.log);
  const progress = createMeter("Compiling", String, out);
  try {
    const configured = await logged("cmake", configure, env, log);
    if (!configured) {
      rmSync(join(paths.build, "CMakeCache.txt"), { force: true }); // a half configuration would be believed next time
      throw failed("cmake could not configure the native bridge", paths.log);
    }
    const build = ["--build", paths.build, "--target", "slimtune", "--parallel", String(jobs)];
    const built = await logged("cmake", build, env, log, (line) => {
      // "[3/8] Building ..." (Ninja), "[ 37%] Building ..." (make)
      const step = /^\[\s*(\d+)(?:\/(\d+)|%)\]/.exec(line);
      if (step) progress.update(Number(step[1]), Number(step[2] ?? 100));
    });
    if (!built) throw failed("the native bridge did not compile", paths.log);
  } finally {
    progress.end();
    log.end();
  }
  const loaded = await tryAddon(paths.addon);
  if (loaded) throw new UserError(`The native bridge was built but does not load: ${loaded}\nWhole log: ${paths.log}`);
  writeRecord(paths, { ...libtorch, how, hash });
  out.write(`Built ${paths.addon} (${formatSeconds((Date.now() - start) / 1000)})\n`);
}

/** Loads an addon in a process of its own. Returns the reason if it fails. */
export async function tryAddon(addon: string): Promise<string | undefined> {
  const result = await run(process.execPath, ["-e", "require(process.argv[1])", addon], { timeoutMs: 120_000 });
  if (result.code === 0) return undefined;
  return result.failure ?? /^Error: (.*)$/m.exec(result.stderr)?.[1] ?? lastLine(result.stderr);
}

function logged(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  log: NodeJS.WritableStream,
  onLine: (line: string) => void = () => {},
): Promise<boolean> {
  return new Promise((resolve) => {
    log.write(`$ ${command} ${args.join(" ")}\n`);
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let rest = "";
    child.stdout.on("data", (chunk: Buffer) => {
      log.write(chunk);
      const lines = (rest + chunk.toString()).split(/[\r\n]+/);
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    });
    child.stderr.on("data", (chunk: Buffer) => log.write(chunk));
    child.on("error", (error) => {
      log.write(`${error.message}\n`);
      resolve(false);
    });
    // through the log's own queue, so that all of the output is in the file before anybody reads it
    child.on("close", (code) => log.write("\n", () => resolve(code === 0)));
  });
}

function failed(what: string, log: string): UserError {
  const tail = readFileSync(log, "utf8").trimEnd().split("\n").slice(-LOG_TAIL);
  return new UserError(`${what}. The last lines of ${log}:\n\n${tail.join("\n")}\n`);
}

/** CMake refuses a build folder that was made from another place or with another build tool. */
function matchesCache(paths: NativePaths, toolchain: Toolchain): boolean {
  const file = join(paths.build, "CMakeCache.txt");
  if (!existsSync(file)) return true;
  const text = readFileSync(file, "utf8");
  return (
    text.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${paths.source}\n`) &&
    text.includes(`CMAKE_GENERATOR:INTERNAL=${toolchain.generator}\n`)
  );
}

function clean(paths: NativePaths): void {
  if (!existsSync(paths.build)) return;
  for (const name of readdirSync(paths.build)) {
    if (join(paths.build, name) !== paths.lock) rmSync(join(paths.build, name), { recursive: true, force: true });
  }
}
