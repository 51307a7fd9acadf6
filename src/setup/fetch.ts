import { existsSync, readdirSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { withLock } from "../support/lock.js";
import { createMeter, formatBytes, formatSeconds, type Output } from "../support/meter.js";
import { libtorchCache } from "./cache.js";
import { download } from "./download.js";
import { type Attempt, examine, type Found } from "./find.js";
import { inspectLibtorch } from "./libtorch.js";
import { askPip, pythonCandidates } from "./python.js";
import { PIP_HINT } from "./toolchain.js";
import { extractZip } from "./unzip.js";
import { PINNED_VERSION, type ZipSource } from "./versions.js";
import { fetchWheel } from "./wheels.js";

export interface FetchRequest {
  variant: string;
  env: NodeJS.ProcessEnv;
  /** The archive for this platform, if there is one. */
  zip: ZipSource | undefined;
  out: Output;
}

/**
 * Fetches the pinned LibTorch into the cache: PyTorch's zip, or else the wheel by way of pip. Only a complete, checked
 * folder gets its final name; what an interrupted run left is continued (the zip) or removed (everything else).
 */
export async function fetchLibtorch(request: FetchRequest): Promise<{ found?: Found; attempts: Attempt[] }> {
  const cache = libtorchCache(request.env);
  const onWait = (holder: string) => request.out.write(`Waiting for another set-up (${holder})\n`);
  return withLock(join(cache, ".lock"), onWait, async () => {
    const home = join(cache, `${PINNED_VERSION}-${request.variant}`);
    const existing = await examine(home, request.variant);
    if (existing.libtorch) return { found: { libtorch: existing.libtorch, how: "cache" }, attempts: [] };
    const partial = request.zip ? `${zipName(request.zip)}.partial` : "";
    await removeLeftovers(cache, partial);

    const work = join(cache, "unfinished");
    const attempts: Attempt[] = [];
    try {
      for (const way of [fromZip, fromPip]) {
        await mkdir(work, { recursive: true });
        const start = Date.now();
        const got = await way(request, cache, work);
        if ("reason" in got) {
          attempts.push(got);
          request.out.write(`  ${got.where}: ${got.reason}\n`);
        } else {
          const reason = await settle(got.tree, home, request.variant, join(work, "old"));
          const fetched = inspectLibtorch(home).libtorch;
          if (reason === undefined && fetched) {
            request.out.write(`Fetched LibTorch to ${home} (${formatSeconds((Date.now() - start) / 1000)})\n`);
            return { found: { libtorch: fetched, how: got.where }, attempts };
          }
          attempts.push({ where: got.where, reason: reason ?? "it is not complete" });
          request.out.write(`  ${got.where}: ${reason}\n`);
        }
        await rm(work, { recursive: true, force: true });
      }
      return { attempts };
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
}

type Got = { where: string; tree: string } | Attempt;

async function fromZip({ zip, variant, out }: FetchRequest, cache: string, work: string): Promise<Got> {
  if (!zip) {
    return {
      where: "zip from pytorch.org",
      reason: `there is none for ${process.platform}-${process.arch}, ${variant}`,
    };
  }
  const file = join(cache, zipName(zip));
  const tree = join(work, "tree");
  out.write(`Fetching ${zip.url}\n`);
  const fetching = createMeter("Fetching LibTorch", formatBytes, out);
  const unpacking = createMeter("Unpacking", formatBytes, out);
  try {
    await download(zip.url, file, { sha256: zip.sha256, onProgress: fetching.update });
    fetching.end();
    await extractZip(file, tree, { onProgress: unpacking.update });
    return { where: zip.url, tree };
  } catch (error) {
    return { where: zip.url, reason: (error as Error).message };
  } finally {
    fetching.end();
    unpacking.end();
    await rm(file, { force: true });
  }
}

async function fromPip({ variant, env, out }: FetchRequest, _cache: string, work: string): Promise<Got> {
  const reasons: string[] = [];
  for (const { label, command } of pythonCandidates(env)) {
    const { pip, reason } = await askPip(command, env);
    if (!pip) {
      reasons.push(`${label}: ${reason}`);
      continue;
    }
    const where = `${command} -m pip download --no-deps torch==${PINNED_VERSION}`;
    out.write(`Fetching: ${where}\n`);
    try {
      return { where, tree: await fetchWheel({ python: command, env, work, out }, variant) };
    } catch (error) {
      return { where, reason: (error as Error).message };
    }
  }
  return { where: `pip download torch==${PINNED_VERSION}`, reason: `no pip (${reasons.join("; ")}). ${PIP_HINT}` };
}

/** Checks the unpacked folder and gives it its final name. Returns the reason if it is no good. */
async function settle(tree: string, home: string, variant: string, old: string): Promise<string | undefined> {
  const { libtorch, reason } = await examine(tree, variant);
  if (!libtorch) return reason;
  if (libtorch.version !== PINNED_VERSION) return `it is version ${libtorch.version}, not ${PINNED_VERSION}`;
  if (existsSync(home)) await rename(home, old); // a broken one, or it would have been taken
  await rename(tree, home);
  return undefined;
}

function zipName(zip: ZipSource): string {
  return decodeURIComponent(basename(new URL(zip.url).pathname));
}

/** Everything in the cache that is neither a finished folder nor the download that can be continued. */
async function removeLeftovers(cache: string, partial: string): Promise<void> {
  for (const name of readdirSync(cache)) {
    const kept = name.startsWith(".lock") || /^\d+\.\d+\.\d+-[\w.]+$/.test(name);
    if (!kept && !(partial && (name === partial || name === `${partial}.json`))) {
      await rm(join(cache, name), { recursive: true, force: true });
    }
  }
}
