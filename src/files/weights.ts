/** Finds the safetensors files of a model or adapter folder and says where each tensor lies. */
import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";
import { UserError } from "../support/errors.js";
import { isPlainPath } from "../support/plainPath.js";
import { quoteName } from "../support/plainText.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { readHeader, type SafetensorsHeader, type TensorInfo } from "./safetensors.js";

/** `model` for a model's folder, `adapter_model` for a PEFT adapter's. */
export type WeightsStem = "model" | "adapter_model";

export interface TensorLocation {
  /** Path of the safetensors file that holds the tensor. */
  file: string;
  info: TensorInfo;
}

export interface WeightIndex {
  folder: string;
  /** One header per file, in the order of the files' names. */
  headers: SafetensorsHeader[];
  /** Tensor name to place, over all files. */
  tensors: Map<string, TensorLocation>;
}

const MAX_SHARDS = 10_000;

/** Python that turns a folder's pickles into safetensors. */
const CONVERT = {
  model: "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)",
  adapter_model: "AutoPeftModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)",
} as const;

/** The error for a folder without weights, from what lies in it instead. */
function explainMissing(folder: string, stem: WeightsStem, names: readonly string[]): UserError {
  const single = `${stem}.safetensors`;
  if (names.includes(single)) {
    return new UserError(`${join(folder, single)} is a link to a file that does not exist. Download the model again.`);
  }
  if (stem === "model" && names.includes("adapter_config.json")) {
    return new UserError(
      `${folder} holds an adapter, not a model. Name its base model as \`model\` and this folder as \`adapter\`.`,
    );
  }
  const pickle = names.find((name) => /^(pytorch|adapter)_model\b.*\.bin$|\.(pt|pth|ckpt)$/.test(name));
  if (pickle !== undefined) {
    return new UserError(
      `${folder} has ${pickle} but no ${single}. slimtune reads safetensors only, because opening a pickle can run code. ` +
        `Convert it once in Python, \`${CONVERT[stem]}\`, and use the new folder.`,
    );
  }
  return new UserError(
    `${folder} has no weights: neither ${single} nor ${single}.index.json. Check the path, or download the model again.`,
  );
}

/** The folders that the files of `folder` may really lie in: itself, and the blobs of its repository in a hub cache. */
async function allowedRoots(folder: string): Promise<string[]> {
  const real = await realpath(folder);
  // <cache>/models--org--name/snapshots/<commit>/file is a link to <cache>/models--org--name/blobs/<etag>
  const snapshots = dirname(real);
  const repository = dirname(snapshots);
  if (basename(snapshots) !== "snapshots" || !basename(repository).startsWith("models--")) return [real];
  const blobs = await realpath(join(repository, "blobs")).catch(() => undefined);
  return blobs === undefined ? [real] : [real, blobs];
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== "" && !isAbsolute(way) && way.split(sep)[0] !== "..";
}

/** Follows links; undefined when there is no such file (or its link leads nowhere). */
async function findFile(folder: string, name: string, roots: readonly string[]): Promise<string | undefined> {
  const path = join(folder, name);
  let real: string;
  try {
    real = await realpath(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw new UserError(`Cannot open ${path}: ${(error as Error).message}.`, { cause: error });
  }
  if (roots.some((root) => isInside(root, real))) return path;
  throw new UserError(
    `${path} is a link to ${real}, outside the model's folder. Put the file itself into the folder, or name the folder ` +
      "that it lies in.",
  );
}

/**
 * Reads `<stem>.safetensors.index.json`: tensor name to file name.
 * @throws UserError when it is not a map of tensor names to plain file names
 */
export async function readShardIndex(path: string): Promise<Map<string, string>> {
  const fail = (reason: string) => new UserError(`${path}: ${reason}. Download or export the model again.`);
  let index: unknown;
  try {
    index = JSON.parse((await readRegularFile(path, FILE_LIMITS.index)).toString());
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw fail(`not valid JSON (${(error as Error).message})`);
  }
  const weightMap = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof weightMap !== "object" || weightMap === null || Array.isArray(weightMap)) {
    throw fail("no weight_map, which must map tensor names to files");
  }
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(weightMap)) {
    if (typeof file !== "string" || !isPlainPath(file) || !file.endsWith(".safetensors")) {
      const found = typeof file === "string" ? quoteName(file) : JSON.stringify(file);
      throw fail(
        `weight_map gives ${quoteName(tensor)} the file ${found}, which is not a .safetensors file name in it`,
      );
    }
    files.set(tensor, file);
  }
  if (files.size === 0) throw fail("weight_map is empty");
  const shards = new Set(files.values()).size;
  if (shards > MAX_SHARDS) throw fail(`weight_map names ${shards} files (limit ${MAX_SHARDS})`);
  return files;
}

function listSome(names: readonly string[]): string {
  const shown = names.slice(0, 5).map(quoteName).join(", ");
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

async function readShards(folder: string, indexPath: string, roots: readonly string[]): Promise<SafetensorsHeader[]> {
  const index = await readShardIndex(indexPath);
  const shards = [...new Set(index.values())].sort();
  const paths = new Map<string, string>();
  for (const shard of shards) {
    const path = await findFile(folder, shard, roots);
    if (path !== undefined) paths.set(shard, path);
  }
  const missing = shards.filter((shard) => !paths.has(shard));
  if (missing.length > 0) {
    throw new UserError(
      `${folder} lacks ${missing.length} of the ${shards.length} files of its index: ${listSome(missing)}. ` +
        "Download the model again.",
    );
  }
  const headers = new Map<string, SafetensorsHeader>();
  for (const [shard, path] of paths) {
    const header = await readHeader(path);
    for (const tensor of header.tensors.keys()) {
      const claimed = index.get(tensor);
      if (claimed === shard) continue;
      const claim = claimed === undefined ? "the index does not know it" : `the index says ${quoteName(claimed)}`;
      throw new UserError(`${path} holds tensor ${quoteName(tensor)}, but ${claim}. Download the model again.`);
    }
    headers.set(shard, header);
  }
  for (const [tensor, shard] of index) {
    if (headers.get(shard)!.tensors.has(tensor)) continue;
    throw new UserError(
      `${indexPath} says that ${quoteName(shard)} holds tensor ${quoteName(tensor)}, but it does not. Download the model again.`,
    );
  }
  return [...headers.values()];
}

/**
 * Locates every tensor of a model's folder (`model.safetensors`, or the shards of `model.safetensors.index.json`) or of
 * an adapter's (`adapter_model.safetensors`). Only headers are read.
 * @throws UserError when the weights are missing, damaged, inconsistent, outside the folder, or only pickles
 */
export async function resolveWeights(folder: string, stem: WeightsStem = "model"): Promise<WeightIndex> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw new UserError(`Cannot open the model folder ${folder}: ${(error as Error).message}.`, { cause: error });
  }
  const roots = await allowedRoots(folder);
  const single = await findFile(folder, `${stem}.safetensors`, roots);
  const indexPath = await findFile(folder, `${stem}.safetensors.index.json`, roots);
  let headers: SafetensorsHeader[];
  // The single file wins over an index, as in transformers.
  if (single !== undefined) headers = [await readHeader(single)];
  else if (indexPath !== undefined) headers = await readShards(folder, indexPath, roots);
  else throw explainMissing(folder, stem, names);

  const tensors = new Map<string, TensorLocation>();
  for (const header of headers) {
    for (const [name, info] of header.tensors) tensors.set(name, { file: header.path, info });
  }
  return { folder, headers, tensors };
}
