/** The files of one revision of a repository: asked of the hub, or found in the cache when the hub is not to be had. */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rename, stat, writeFile } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { UserError } from "../support/errors.js";
import { isHubId } from "../support/hubId.js";
import { createMeter, formatBytes, type Meter } from "../support/meter.js";
import { isPlainPath } from "../support/plainPath.js";
import { tell } from "../support/plainText.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import {
  explain,
  isCommit,
  isUnreachable,
  listRemote,
  type RemoteFile,
  type RemoteListing,
  type Repository,
} from "./client.js";
import { fetchFile, isCached } from "./download.js";
import { hubSettings } from "./settings.js";

export interface HubProgress {
  file: string;
  /** Bytes of the file that are here, of `size`. */
  received: number;
  size: number;
}

export interface HubOptions {
  /** Branch, tag or commit. Default: main. */
  revision?: string;
  /** Default: a bar on stderr. */
  onProgress?: (progress: HubProgress) => void;
  /** What the user should know, one sentence each. Default: a line on stderr. */
  onNotice?: (message: string) => void;
  /** Where HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are read. Default: process.env. */
  env?: NodeJS.ProcessEnv;
}

export interface Snapshot {
  /** The local folder that holds, or will hold, the files. */
  folder: string;
  /** The relative paths of all files there are. */
  paths: string[];
  /** Where the paths were listed, for messages: the hub's address or the cache's folder. */
  source: string;
  /** Brings files into the folder; `paths` must be among those listed. */
  fetch(paths: readonly string[]): Promise<void>;
  /** Notes that all that is needed is here, so that it is found again without the network. */
  complete(): Promise<void>;
}

async function describe(type: Repository["type"], id: string, options: HubOptions): Promise<Repository> {
  if (!isHubId(id)) {
    throw new UserError(`"${id}" is neither a local ${type} nor a hub id such as "name" or "organisation/name".`);
  }
  const revision = options.revision ?? "main";
  if (!isPlainPath(revision)) throw new UserError(`revision is "${revision}", which is no branch, tag or commit.`);
  const settings = await hubSettings(options.env ?? process.env);
  const folder = join(settings.cacheDir, `${type}s--${id.replace("/", "--")}`);
  return { type, id, revision, settings, folder };
}

const listingPath = (repo: Repository, commit: string) => join(repo.folder, ".slimtune", `${commit}.json`);

async function replaceFile(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomUUID()}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}

/** What snapshots of either kind share; `getMissing` is given the wanted files that the cache lacks. */
function openListing(
  repo: Repository,
  { commit, files }: RemoteListing,
  getMissing: (missing: readonly RemoteFile[]) => Promise<void>,
): Pick<Snapshot, "folder" | "paths" | "fetch"> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  return {
    folder: join(repo.folder, "snapshots", commit),
    paths: [...byPath.keys()],
    async fetch(paths) {
      const wanted = paths.map((path) => byPath.get(path)!);
      const cached = await Promise.all(wanted.map((file) => isCached(repo, commit, file)));
      const missing = wanted.filter((_, i) => !cached[i]);
      if (missing.length > 0) await getMissing(missing);
    },
  };
}

/** The complete file list that slimtune left beside the snapshot, else the files that Python left in it. */
async function cachedListing(repo: Repository, commit: string): Promise<RemoteListing> {
  const saved = await readRegularFile(listingPath(repo, commit), FILE_LIMITS.index).catch(() => undefined);
  if (saved !== undefined) return JSON.parse(saved.toString()) as RemoteListing;
  const folder = join(repo.folder, "snapshots", commit);
  const files: RemoteFile[] = [];
  for (const entry of await readdir(folder, { recursive: true }).catch(() => [])) {
    const found = await stat(join(folder, entry)).catch(() => undefined);
    if (found?.isFile()) files.push({ path: entry.split(sep).join("/"), size: found.size, hash: "" });
  }
  return { commit, files };
}

/** The snapshot that an earlier run completed, or undefined. */
async function openCached(repo: Repository): Promise<Snapshot | undefined> {
  const { revision } = repo;
  const ref = isCommit(revision)
    ? revision
    : await readRegularFile(join(repo.folder, "refs", revision), FILE_LIMITS.text).catch(() => "");
  const commit = ref.toString().trim();
  if (!isCommit(commit)) return undefined;
  const listing = await cachedListing(repo, commit);
  if (listing.files.length === 0) return undefined;
  const source = `the cache ${join(repo.folder, "snapshots", commit)}`;
  const refuse = async (missing: readonly RemoteFile[]) => {
    throw new UserError(
      `${source} lacks ${missing.length} files of ${repo.id}, for instance ${missing[0]!.path}, and the hub is not asked ` +
        "or cannot be reached. Run once with the network and without HF_HUB_OFFLINE.",
    );
  };
  return { ...openListing(repo, listing, refuse), source, complete: async () => {} };
}

/** Shows each file's bytes on stderr. */
function stderrProgress(): (progress: HubProgress) => void {
  let shown: { file: string; bar: Meter } | undefined;
  return ({ file, received, size }) => {
    if (shown?.file !== file) {
      shown?.bar.end();
      shown = { file, bar: createMeter(file, formatBytes) };
    }
    shown.bar.update(received, size);
    if (received === size) shown.bar.end();
  };
}

function openRemote(repo: Repository, listing: RemoteListing, options: HubOptions): Snapshot {
  const { commit } = listing;
  const onProgress = options.onProgress ?? stderrProgress();
  const onNotice = options.onNotice ?? tell;
  const download = async (missing: readonly RemoteFile[]) => {
    const bytes = missing.reduce((sum, { size }) => sum + size, 0);
    onNotice(
      `Downloading ${missing.length} ${missing.length === 1 ? "file" : "files"} (${formatBytes(bytes)}) of ${repo.id} to ${repo.settings.cacheDir}.`,
    );
    for (const file of missing) {
      const { path, size } = file;
      await fetchFile(repo, commit, file, (received) => onProgress({ file: path, received, size }), onNotice);
    }
  };
  const complete = async () => {
    await replaceFile(listingPath(repo, commit), JSON.stringify(listing));
    if (!isCommit(repo.revision)) await replaceFile(join(repo.folder, "refs", repo.revision), commit);
  };
  const source = repo.settings.endpoint;
  const explained = <A extends unknown[]>(work: (...args: A) => Promise<void>) => {
    return (...args: A) =>
      work(...args).catch((error) => {
        throw explain(error, repo);
      });
  };
  return { ...openListing(repo, listing, explained(download)), source, complete: explained(complete) };
}

/**
 * Looks a repository up. With HF_HUB_OFFLINE only the cache is asked; without, the cache stands in when the hub cannot
 * be reached.
 * @throws UserError when neither has it
 */
export async function openSnapshot(type: Repository["type"], id: string, options: HubOptions): Promise<Snapshot> {
  const repo = await describe(type, id, options);
  if (repo.settings.offline) {
    const cached = await openCached(repo);
    if (cached !== undefined) return cached;
    throw new UserError(
      `The ${type} ${id} (revision ${repo.revision}) is not in the cache ${repo.settings.cacheDir}, and HF_HUB_OFFLINE ` +
        "forbids to download it. Unset HF_HUB_OFFLINE once, or give a local path.",
    );
  }
  try {
    return openRemote(repo, await listRemote(repo), options);
  } catch (error) {
    const cached = isUnreachable(error) ? await openCached(repo) : undefined;
    if (cached === undefined) throw explain(error, repo);
    const notice = options.onNotice ?? tell;
    notice(`${repo.settings.endpoint} cannot be reached: using ${id} from the cache ${repo.settings.cacheDir}.`);
    return cached;
  }
}
