/** What slimtune asks of the hub's API, through @huggingface/hub, and what its failures mean to the user. */
import { datasetInfo, HubApiError, listFiles, modelInfo } from "@huggingface/hub";
import { UserError } from "../support/errors.js";
import { isPlainPath } from "../support/plainPath.js";
import type { HubSettings } from "./settings.js";

export interface Repository {
  type: "model" | "dataset";
  id: string;
  /** Branch, tag or commit. */
  revision: string;
  settings: HubSettings;
  /** The repository's folder in the cache, laid out as Python's huggingface_hub lays it out. */
  folder: string;
}

export interface RemoteFile {
  /** Relative path, checked to stay inside the repository. */
  path: string;
  size: number;
  /** Hexadecimal SHA-256 of the content, or, in 40 digits, git's SHA-1 of it. */
  hash: string;
}

export interface RemoteListing {
  commit: string;
  files: RemoteFile[];
}

const METADATA_TIMEOUT_MS = 30_000;

/** `fetch` that sends the token to the hub alone, never to a host that the hub redirects or links to. */
export function hubFetch(settings: HubSettings, timeoutMs?: number): typeof fetch {
  const { origin } = new URL(settings.endpoint);
  return (input, init) => {
    const headers = new Headers(init?.headers);
    if (new URL(input instanceof Request ? input.url : input).origin !== origin) headers.delete("authorization");
    const signal = timeoutMs === undefined ? init?.signal : AbortSignal.timeout(timeoutMs);
    return fetch(input, { ...init, headers, signal });
  };
}

export const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

/** The commit that the revision stands for now, and all its files. */
export async function listRemote(repo: Repository): Promise<RemoteListing> {
  const { type, id: name, settings, revision } = repo;
  const common = {
    hubUrl: settings.endpoint,
    accessToken: settings.token,
    fetch: hubFetch(settings, METADATA_TIMEOUT_MS),
  };
  const info = await (type === "model"
    ? modelInfo({ ...common, name, revision, additionalFields: ["sha"] })
    : datasetInfo({ ...common, name, revision, additionalFields: ["sha"] }));
  const commit = info.sha;
  if (typeof commit !== "string" || !isCommit(commit)) throw new Error("the answer names no commit");
  const files: RemoteFile[] = [];
  for await (const entry of listFiles({ ...common, repo: { type, name }, revision: commit, recursive: true })) {
    if (entry.type !== "file") continue;
    const hash = entry.lfs?.oid ?? entry.oid ?? "";
    const valid = isPlainPath(entry.path) && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash);
    if (!valid || !Number.isSafeInteger(entry.size) || entry.size < 0) {
      throw new UserError(
        `${settings.endpoint} lists a file of ${name} that cannot be used: ${JSON.stringify(entry)}.`,
      );
    }
    files.push({ path: entry.path, size: entry.size, hash });
  }
  return { commit, files };
}

/** True when asking again later may help: no connection, no sensible answer, or a server in trouble. */
export function isUnreachable(error: unknown): boolean {
  if (error instanceof UserError || isDiskError(error)) return false;
  return !(error instanceof HubApiError) || error.statusCode >= 500 || [408, 429].includes(error.statusCode);
}

/** A failed file operation; those of the network arrive wrapped by fetch. */
const isDiskError = (error: unknown) => error instanceof Error && "syscall" in error;

/** fetch hides the reason in `cause`, and there sometimes in a list; @huggingface/hub rejects streams with strings. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (error instanceof Error && error.cause !== undefined) return reasonOf(error.cause);
  return error instanceof Error ? error.message || error.name : String(error);
}

/** The UserError for a failure while `repo` was looked up or downloaded. */
export function explain(error: unknown, repo: Repository): UserError {
  if (error instanceof UserError) return error;
  const { type, id, revision, settings } = repo;
  const what = `the ${type} ${id}`;
  const because = { cause: error };
  if (isDiskError(error)) {
    return new UserError(
      `Cannot store ${what} in the cache ${settings.cacheDir}: ${reasonOf(error)}. ` +
        "Set HF_HOME to a folder with space that you may write to.",
      because,
    );
  }
  if (!isUnreachable(error) && error instanceof HubApiError) {
    const page = `${settings.endpoint}/${type === "dataset" ? "datasets/" : ""}${id}`;
    const status = error.statusCode;
    if (status === 401 || status === 403) {
      const token = settings.token === undefined ? "set HF_TOKEN to a token" : "use an HF_TOKEN";
      return new UserError(
        `${settings.endpoint} refuses ${what} (status ${status}): it does not exist, is private, or its terms are not ` +
          `accepted yet. Check the name; for a private or gated one accept its terms on ${page} and ${token} of an ` +
          "account that may read it.",
        because,
      );
    }
    if (status === 404) {
      return new UserError(
        `${settings.endpoint} has no ${type} ${id} with the revision ${revision}. Check both on ${page}; ` +
          "a local folder is given by its path.",
        because,
      );
    }
    return new UserError(`${settings.endpoint} refuses ${what}: ${error.message}.`, because);
  }
  return new UserError(
    `Cannot get ${what} from ${settings.endpoint}: ${reasonOf(error)}. Try again when the network is there (what was ` +
      `downloaded is kept), or give a local path instead of the id, or put the files into the cache ` +
      `${settings.cacheDir} on another machine; HF_ENDPOINT names a mirror.`,
    because,
  );
}
