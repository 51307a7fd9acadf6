/** The model files that users take away: a PEFT adapter, or a whole model folder; each loads in Python. */

import { copyFile, mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  ADAPTER_CONFIG,
  CHAT_TEMPLATES,
  CONFIG,
  GENERATION_CONFIG,
  isTokenizerFile,
  TOKENIZER_CONFIG,
} from "../../files/modelFolder.js";
import { type TensorEntry, writeSafetensors, writeShardedSafetensors } from "../../files/safetensorsWriter.js";
import { storedEntry } from "../../files/storedEntry.js";
import { resolveWeights } from "../../files/weights.js";
import type { CausalLM } from "../../models/causalLM.js";
import { adapterConfigJson } from "../../peft/adapterConfig.js";
import { adapterEntries } from "../../peft/adapterFile.js";
import { adviceToGoOn } from "../../runFolder/checkpoints.js";
import { TRAINER_STATE } from "../../runFolder/files.js";
import { stateJson, type TrainerState } from "../../runFolder/state.js";
import { replaceFile, sync, textOf, writeSynced } from "../../support/durable.js";
import { editJson } from "../../support/editJson.js";
import { UserError } from "../../support/errors.js";
import type { PreparedRun } from "../prepare.js";

/** Writes the trained weights, their config and the tokenizer into `folder`, each file whole or not at all. */
export async function writeModelFiles(
  folder: string,
  { model, lora, modelFolder, modelName, eos }: PreparedRun,
): Promise<void> {
  const templates = await readdir(join(modelFolder, CHAT_TEMPLATES)).catch(() => []);
  for (const path of [...(await readdir(modelFolder)), ...templates.map((name) => `${CHAT_TEMPLATES}/${name}`)]) {
    if (!isTokenizerFile(path) && !(path === GENERATION_CONFIG && !lora)) continue;
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await copyFile(join(modelFolder, path), join(folder, path));
    await sync(join(folder, path));
  }
  if (eos) await endWith(folder, eos, { tokenizerOnly: lora !== undefined });
  if (lora) {
    await writeSafetensors(join(folder, "adapter_model.safetensors"), adapterEntries(model, lora));
    await writeSynced(join(folder, ADAPTER_CONFIG), adapterConfigJson(lora, modelName));
    return;
  }
  const trained = [...model.parameters.values()].map(({ name, stored = name, shape, tensor }) => ({
    name: stored,
    dtype: "F32" as const,
    shape,
    data: () => tensor.bytes(),
  }));
  await writeShardedSafetensors(folder, [...trained, ...(await carriedEntries(model, modelFolder))]);
  const config = editJson(model.description.text, ({ torch_dtype: _, ...source }) => ({
    ...source,
    dtype: "float32",
    ...(eos ? { eos_token_id: eos.id } : {}),
  }));
  await writeSynced(join(folder, CONFIG), config);
}

/** The weights of a multimodal model's other parts, as they are in its folder. */
async function carriedEntries({ description }: CausalLM, modelFolder: string): Promise<TensorEntry[]> {
  const carried = description.others?.carried;
  if (!carried) return [];
  const { tensors } = await resolveWeights(modelFolder);
  return [...tensors].filter(([name]) => carried.test(name)).map(([name, place]) => storedEntry(name, place));
}

/** Answers end with the token that `eos_token` named: as in transformers, tokenizer and generation config say so. */
async function endWith(
  folder: string,
  { token, id }: { token: string; id: number },
  { tokenizerOnly }: { tokenizerOnly: boolean },
): Promise<void> {
  await change(join(folder, TOKENIZER_CONFIG), (config) => ({ ...config, eos_token: token }));
  if (tokenizerOnly) return;
  await change(join(folder, GENERATION_CONFIG), ({ eos_token_id: before, ...config }) => ({
    ...config,
    eos_token_id: [...new Set([id, ...[before ?? []].flat()])],
  }));
}

/** A file that is not there counts as an empty one. */
async function change(path: string, how: (value: Record<string, unknown>) => Record<string, unknown>): Promise<void> {
  await writeSynced(path, editJson((await textOf(path)) ?? "{}", how));
}

/** The trained model at the top of output_dir; `trainer_state.json` comes last. */
export async function writeResult(folder: string, run: PreparedRun, state: TrainerState): Promise<void> {
  try {
    await writeModelFiles(folder, run);
    await replaceFile(join(folder, TRAINER_STATE), stateJson(state));
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code) throw error;
    throw new UserError(
      `output_dir: the model cannot be written to ${folder}: ${(error as Error).message}. Make room. ${await adviceToGoOn(folder)}`,
      { cause: error },
    );
  }
}
