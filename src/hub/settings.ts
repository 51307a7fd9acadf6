import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";

/** Where the hub is and where its files are kept: the environment variables that Hugging Face's own tools read. */
export interface HubSettings {
  /** `HF_ENDPOINT`, without a slash at the end. */
  endpoint: string;
  /** `HF_TOKEN`, or what `hf auth login` stored (`HF_TOKEN_PATH`, or `token` in `HF_HOME`). */
  token?: string;
  /** `HF_HUB_CACHE`, or `hub` in `HF_HOME`. */
  cacheDir: string;
  /** `HF_HUB_OFFLINE`: never ask the network. */
  offline: boolean;
}

const expandHome = (path: string) => resolve(path.replace(/^~(?=$|[/\\])/, homedir()));

async function storedToken(path: string): Promise<string | undefined> {
  try {
    return (await readRegularFile(path, FILE_LIMITS.text)).toString().trim() || undefined;
  } catch (error) {
    if (error instanceof UserError) throw error;
    return undefined; // nobody logged in on this machine
  }
}

/** @throws UserError for an endpoint that is no URL, or a token that cannot be one */
export async function hubSettings(env: NodeJS.ProcessEnv): Promise<HubSettings> {
  const home = expandHome(env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface"));
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint)) {
    throw new UserError(`HF_ENDPOINT is "${endpoint}", which is no http or https address; correct or unset it.`);
  }
  const token = env.HF_TOKEN?.trim() || (await storedToken(expandHome(env.HF_TOKEN_PATH || join(home, "token"))));
  if (token !== undefined && !/^hf_[\w-]+$/.test(token)) {
    // The value is a secret, so that the message does not show it.
    throw new UserError('HF_TOKEN (or the stored token) is not a Hugging Face token: it must start with "hf_".');
  }
  return {
    endpoint,
    token,
    cacheDir: expandHome(env.HF_HUB_CACHE || join(home, "hub")),
    offline: ["1", "ON", "YES", "TRUE"].includes((env.HF_HUB_OFFLINE ?? "").toUpperCase()),
  };
}
