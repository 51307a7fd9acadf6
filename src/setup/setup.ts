import { resolve } from "node:path";
import { hasNvidiaDriver } from "../nativeModule/cuda.js";
import { type NativePaths, nativePaths } from "../nativeModule/paths.js";
import { type BuildRecord, readRecord } from "../nativeModule/record.js";
import { UserError } from "../support/errors.js";
import { withLock } from "../support/lock.js";
import type { Output } from "../support/meter.js";
import { buildNative } from "./build.js";
import { buildHash } from "./buildHash.js";
import { libtorchCache } from "./cache.js";
import { fetchLibtorch } from "./fetch.js";
import { type Attempt, type Found, findLibtorch, namedFolder } from "./find.js";
import { inspectLibtorch } from "./libtorch.js";
import { checkToolchain } from "./toolchain.js";
import { ACCEPTED_VERSIONS, checkVariant, officialZip, PINNED_VERSION, type ZipSource } from "./versions.js";

export interface SetupOptions {
  /** A LibTorch folder; overrides every other place. */
  libtorch?: string;
  /** `cpu`, or CUDA's version as in `cu130`. Default: any that is found, cpu when one must be fetched. */
  variant?: string;
  /** Compiler processes at once. */
  jobs?: number;
  /** Look for LibTorch again and build from scratch even if all is up to date. */
  force?: boolean;
  env?: NodeJS.ProcessEnv;
  out?: Output;
  /** Where the native sources lie and the addon goes; default: this package's. */
  paths?: NativePaths;
}

/**
 * Brings LibTorch and the native addon up to date: quick when they are, otherwise finds or fetches LibTorch and builds.
 * A LibTorch that was chosen once stays until an option names another, it disappears, or `force`.
 * @throws UserError that says what was tried and what to type
 */
export async function runSetup(options: SetupOptions = {}): Promise<BuildRecord> {
  const env = options.env ?? process.env;
  const out = options.out ?? process.stderr;
  const paths = options.paths ?? nativePaths();
  if (options.variant) checkVariant(options.variant);
  if (process.platform === "win32") {
    throw new UserError("slimtune runs on Linux and macOS; on Windows use it inside WSL 2: wsl --install");
  }
  const ready = () => (options.force ? undefined : upToDate(options, env, paths));
  let record = ready();
  if (!record) {
    const onWait = (holder: string) => out.write(`Waiting for another set-up (${holder})\n`);
    record = await withLock(paths.lock, onWait, async () => {
      const done = ready();
      if (done) return done;
      const toolchain = await checkToolchain(env); // before anything large is fetched
      const found = lastChoice(options, env, paths) ?? (await findOrFetch(options, env, out));
      out.write(
        `LibTorch ${found.libtorch.version} (${found.libtorch.variant}): ${found.libtorch.root} (${found.how})\n`,
      );
      await buildNative(found, paths, { toolchain, jobs: options.jobs, force: options.force, env, out });
      return readRecord(paths)!;
    });
  }
  out.write(`Ready: LibTorch ${record.version} (${record.variant}) in ${record.root}\n`);
  if (record.variant === "cpu" && hasNvidiaDriver()) {
    out.write("This machine has an NVIDIA GPU; to use it: npx slimtune setup --variant cu130\n");
  }
  return record;
}

/** The record of the last build, if nothing that went into it has changed and it is what is asked for. */
function upToDate(options: SetupOptions, env: NodeJS.ProcessEnv, paths: NativePaths): BuildRecord | undefined {
  const record = readRecord(paths);
  const chosen = lastChoice(options, env, paths);
  return record && chosen && buildHash(paths, chosen.libtorch) === record.hash ? record : undefined;
}

/** The LibTorch of the last build, if it is still good and no option asks for another. */
function lastChoice(options: SetupOptions, env: NodeJS.ProcessEnv, paths: NativePaths): Found | undefined {
  const record = options.force ? undefined : readRecord(paths);
  if (!record || (options.variant && options.variant !== record.variant)) return undefined;
  const named = namedFolder({ ...options, env });
  const { libtorch } = inspectLibtorch(named ? resolve(named.folder) : record.root);
  return libtorch?.root === record.root ? { libtorch, how: record.how } : undefined;
}

async function findOrFetch(options: SetupOptions, env: NodeJS.ProcessEnv, out: Output): Promise<Found> {
  const { found, attempts } = await findLibtorch({ ...options, env });
  if (found) return found;
  const variant = options.variant ?? "cpu";
  out.write(`No LibTorch ${ACCEPTED_VERSIONS} found on this machine; fetching ${PINNED_VERSION} (${variant})\n`);
  const zip = officialZip(process.platform, process.arch, variant);
  const fetched = await fetchLibtorch({ variant, env, zip, out });
  if (fetched.found) return fetched.found;
  throw nothingWorked([...attempts, ...fetched.attempts], variant, zip, libtorchCache(env));
}

/** The error when every way has failed: each with its reason, and what to type. */
export function nothingWorked(
  attempts: Attempt[],
  variant: string,
  zip: ZipSource | undefined,
  cache: string,
): UserError {
  const tried = attempts.map(({ where, reason }) => `  ${where}: ${reason}`);
  const byHand = zip
    ? [
        "  or, on any machine, unpack this file and name the folder:",
        `    ${zip.url}`,
        "    npx slimtune setup --libtorch DIR",
      ]
    : ["  or name a LibTorch folder, one with include/ and lib/:", "    npx slimtune setup --libtorch DIR"];
  return new UserError(
    [
      `LibTorch ${ACCEPTED_VERSIONS} (${variant}) was not found, and ${PINNED_VERSION} could not be fetched. Tried:`,
      ...tried,
      "What to type, once the network answers:",
      "    npx slimtune setup",
      "  or with a Python whose pip works:",
      `    python3 -m pip install torch==${PINNED_VERSION} && npx slimtune setup`,
      ...byHand,
      `Fetched files are kept in ${cache} (set SLIMTUNE_CACHE to move it).`,
    ].join("\n"),
  );
}
