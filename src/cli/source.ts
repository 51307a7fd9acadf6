/** What a person names to a command that uses a trained model: a run's folder, an adapter, a model, a config file. */
import { existsSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../support/errors.js";
import { tell } from "../support/plainText.js";

export interface Source {
  model: string;
  adapter?: string;
}

/**
 * The model, with its adapter, that a name stands for: a run's `output_dir` (its result, or its newest checkpoint), a
 * checkpoint, an adapter (whose config names the base), a model, a config file (what its run left), or a hub id of either.
 * @param base the base model, where the adapter's config is not to be asked
 * @throws UserError saying what there is instead
 */
export async function sourceOf(name: string, base?: string): Promise<Source> {
  const { resolveModel } = await import("../hub/index.js");
  if (existsSync(name) && statSync(name).isFile()) return ofConfig(name, base);
  return ofFolder(await resolveModel(name), base);
}

/** What a config's run left in its output_dir. */
async function ofConfig(file: string, base: string | undefined): Promise<Source> {
  const { loadConfig } = await import("../config/index.js");
  const { model, training_args } = await loadConfig(file);
  const { output_dir } = training_args;
  const folder = await placeOf(output_dir);
  if (!existsSync(folder)) {
    throw new UserError(`output_dir: ${folder} of ${file} is not there yet. Train first: npx slimtune train ${file}`);
  }
  return ofFolder(folder, base ?? model);
}

/** The folder of a config's run: `auto` is the newest. */
export async function placeOf(outputDir: string): Promise<string> {
  const { AUTO, numberedDir } = await import("../runFolder/outputDir.js");
  return outputDir === AUTO ? numberedDir("newest") : outputDir;
}

async function ofFolder(folder: string, base: string | undefined): Promise<Source> {
  const { ADAPTER_CONFIG, CONFIG } = await import("../files/modelFolder.js");
  const names = await readdir(folder);
  if (names.includes(ADAPTER_CONFIG)) return { model: base ?? (await baseOf(folder)), adapter: folder };
  if (names.includes(CONFIG)) return { model: folder };
  const { listCheckpoints } = await import("../runFolder/checkpoints.js");
  const newest = (await listCheckpoints(folder)).at(-1);
  if (newest === undefined) {
    throw new UserError(
      `${folder} holds no trained model: there is no ${ADAPTER_CONFIG}, no ${CONFIG} and no checkpoint`,
    );
  }
  tell(`Note: the run in ${folder} has no result yet; this is its newest checkpoint, ${newest.path}`);
  return ofFolder(newest.path, base);
}

async function baseOf(adapter: string): Promise<string> {
  const { readAdapterConfig } = await import("../peft/adapterConfig.js");
  const { ADAPTER_CONFIG } = await import("../files/modelFolder.js");
  const { baseModel } = await readAdapterConfig(adapter);
  if (baseModel === undefined) {
    throw new UserError(`${join(adapter, ADAPTER_CONFIG)}: it names no base model. Name it with --model.`);
  }
  const { resolveModel } = await import("../config/paths.js");
  const resolved = resolveModel(baseModel, process.cwd());
  if ("value" in resolved) return resolved.value;
  throw new UserError(
    `${join(adapter, ADAPTER_CONFIG)}: base_model_name_or_path: ${resolved.problem}. Name the base with --model.`,
  );
}
