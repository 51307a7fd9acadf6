import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** slimtune's own cache: `SLIMTUNE_CACHE`, or `slimtune` in the system's cache folder. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  if (env.SLIMTUNE_CACHE) return resolve(env.SLIMTUNE_CACHE);
  const home = env.HOME || homedir();
  const system =
    process.platform === "darwin" ? join(home, "Library", "Caches") : env.XDG_CACHE_HOME || join(home, ".cache");
  return join(system, "slimtune");
}

/** Where fetched LibTorches lie, one folder each: `<version>-<variant>`. */
export function libtorchCache(env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheDir(env), "libtorch");
}

/** The folders of the cache that fit the variant (any, if none is asked for): the preferred version first, cpu first. */
export function cachedLibtorches(cache: string, preferred: string, variant: string | undefined): string[] {
  let names: string[];
  try {
    names = readdirSync(cache);
  } catch {
    return [];
  }
  const rank = (name: string) => (name.startsWith(`${preferred}-`) ? 0 : 2) + (name.endsWith("-cpu") ? 0 : 1);
  return names
    .filter((name) => /^\d+\.\d+\.\d+-[a-z0-9.]+$/.test(name))
    .filter((name) => variant === undefined || name.endsWith(`-${variant}`))
    .sort((a, b) => rank(a) - rank(b) || b.localeCompare(a, "en", { numeric: true }))
    .map((name) => join(cache, name));
}
