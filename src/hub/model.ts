import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { isModelFile } from "../files/modelFolder.js";
import { readShardIndex, type WeightsStem } from "../files/weights.js";
import { UserError } from "../support/errors.js";
import { quoteName } from "../support/plainText.js";
import { type HubOptions, openSnapshot, type Snapshot } from "./snapshot.js";

const STEMS: readonly WeightsStem[] = ["model", "adapter_model"];

/** The folder, if the text names one; undefined if it can only be a hub id. */
async function localFolder(text: string): Promise<string | undefined> {
  if (text === "") return undefined; // and no id either
  const path = resolve(text.replace(/^~(?=$|[/\\])/, homedir()));
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return path;
  if (found !== undefined) throw new UserError(`${path} is a file; give the folder of the model that it belongs to.`);
  if (/^([.~/\\]|[a-z]:)|\\|\/.*\/|\/$/i.test(text)) throw new UserError(`There is no model folder ${path}.`);
  return undefined;
}

/** Downloads the index and the shards that it names. */
async function fetchShards(id: string, snapshot: Snapshot, index: string): Promise<void> {
  await snapshot.fetch([index]);
  const places = await readShardIndex(join(snapshot.folder, index));
  const shards = [...new Set(places.values())].sort();
  const missing = shards.filter((shard) => !snapshot.paths.includes(shard));
  if (missing.length > 0) {
    throw new UserError(
      `${id} is incomplete in ${snapshot.source}: ${missing.length} of ${shards.length} files that its index names are ` +
        `missing, the first is ${quoteName(missing[0]!)}.`,
    );
  }
  await snapshot.fetch(shards);
}

/**
 * Resolves a model or adapter to a local folder: a folder stays what it is; a hub id is downloaded into Hugging Face's
 * cache (only configs, tokenizer, chat template and safetensors) or found there.
 * @throws UserError when there is no such folder or id, when the hub refuses or cannot be reached, when a download is
 * damaged, or when the model has no safetensors
 */
export async function resolveModel(idOrPath: string, options: HubOptions = {}): Promise<string> {
  const folder = await localFolder(idOrPath);
  if (folder !== undefined) return folder;

  const snapshot = await openSnapshot("model", idOrPath, options);
  const { paths } = snapshot;
  const weights = STEMS.map((stem) =>
    [`${stem}.safetensors`, `${stem}.safetensors.index.json`].find((name) => paths.includes(name)),
  ).filter((name) => name !== undefined);
  if (weights.length === 0) {
    const pickle = paths.find((path) => /\.(bin|pt|pth|ckpt)$/.test(path));
    const instead = pickle === undefined ? "" : ` It has ${pickle}, but slimtune opens no pickles: they can run code.`;
    throw new UserError(
      `${idOrPath} has no model.safetensors or adapter_model.safetensors in ${snapshot.source}.${instead} ` +
        "Choose a repository or revision with safetensors, or convert it once in Python, " +
        `\`AutoModelForCausalLM.from_pretrained("${idOrPath}").save_pretrained(folder)\`, and give the folder.`,
    );
  }
  await snapshot.fetch(paths.filter(isModelFile));
  for (const name of weights) {
    if (name.endsWith(".index.json")) await fetchShards(idOrPath, snapshot, name);
    else await snapshot.fetch([name]);
  }
  await snapshot.complete();
  return snapshot.folder;
}
