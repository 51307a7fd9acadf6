import type { Libtorch } from "../nativeModule/record.js";
import { UserError } from "../support/errors.js";
import { cachedLibtorches, libtorchCache } from "./cache.js";
import { type Inspected, inspectLibtorch, missingLibraries } from "./libtorch.js";
import { askPython, pythonCandidates } from "./python.js";
import { ACCEPTED_VERSIONS, PINNED_VERSION } from "./versions.js";

/** One place that was tried without success. */
export interface Attempt {
  where: string;
  reason: string;
}

export interface Found {
  libtorch: Libtorch;
  /** Where it comes from, in words. */
  how: string;
}

export interface LibtorchRequest {
  /** `--libtorch`: this folder and no other. */
  libtorch?: string;
  /** `--variant`: only this one will do. */
  variant?: string;
  env: NodeJS.ProcessEnv;
}

/**
 * Looks for a LibTorch on this machine: `--libtorch` or `LIBTORCH`, then the Pythons, then the cache.
 * `attempts` lists what was passed over and why. A folder that the user named and that is no good is an error,
 * not passed over.
 */
export async function findLibtorch(request: LibtorchRequest): Promise<{ found?: Found; attempts: Attempt[] }> {
  const { env, variant } = request;
  const attempts: Attempt[] = [];
  const named = namedFolder(request);
  if (named) {
    const { libtorch, reason } = await examine(named.folder, variant);
    if (libtorch) return { found: { libtorch, how: named.option }, attempts };
    throw new UserError(
      `${named.option} ${named.folder}: ${reason}. ` +
        `It must be a LibTorch ${ACCEPTED_VERSIONS} folder with include/ and lib/; without it, slimtune finds one itself.`,
    );
  }
  attempts.push({ where: "--libtorch and LIBTORCH", reason: "not given" });

  const seen = new Set<string>();
  for (const { label, command } of pythonCandidates(env)) {
    const answer = await askPython(command, env);
    if (typeof answer === "string") {
      attempts.push({ where: label, reason: answer });
      continue;
    }
    if (seen.has(answer.prefix)) continue;
    seen.add(answer.prefix);
    const where = `${label} ${answer.version} (${answer.executable})`;
    if (!answer.torch) {
      attempts.push({ where, reason: "it has no torch package" });
      continue;
    }
    const { libtorch, reason } = await examine(answer.torch, variant);
    if (libtorch) return { found: { libtorch, how: `torch of ${answer.executable}` }, attempts };
    attempts.push({ where, reason });
  }

  const cache = libtorchCache(env);
  const folders = cachedLibtorches(cache, PINNED_VERSION, variant);
  if (!folders.length)
    attempts.push({ where: `cache ${cache}`, reason: `has no ${variant ?? ""} LibTorch`.replace("  ", " ") });
  for (const folder of folders) {
    const { libtorch, reason } = await examine(folder, variant);
    if (libtorch) return { found: { libtorch, how: "cache" }, attempts };
    attempts.push({ where: `cache ${folder}`, reason });
  }
  return { attempts };
}

/** The folder that the user insists on, if any, and the name of the option that says so. */
export function namedFolder(request: LibtorchRequest): { folder: string; option: string } | undefined {
  if (request.libtorch) return { folder: request.libtorch, option: "--libtorch" };
  return request.env.LIBTORCH ? { folder: request.env.LIBTORCH, option: "LIBTORCH" } : undefined;
}

/** Checks a folder: its files, the variant that is asked for, and that its libraries can be loaded here. */
export async function examine(folder: string, variant: string | undefined): Promise<Inspected> {
  const inspected = inspectLibtorch(folder);
  const { libtorch } = inspected;
  if (!libtorch) return inspected;
  if (variant && libtorch.variant !== variant) {
    return { reason: `${libtorch.root} is the ${libtorch.variant} variant, and ${variant} is asked for` };
  }
  const missing = await missingLibraries(libtorch);
  if (missing.length)
    return { reason: `${libtorch.root} needs libraries that are not on this system: ${missing.join(", ")}` };
  return inspected;
}
