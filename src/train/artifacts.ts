/** The model files that users take away: a PEFT adapter, or a whole model folder; each loads in Python. */
import { copyFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors, writeShardedSafetensors } from "../models/safetensorsWriter.js";
import { adapterConfigJson, adapterEntries } from "../peft/adapterFile.js";
import { sync, writeSynced } from "./checkpoint/manifest.js";
import type { PreparedRun } from "./prepare.js";

/** Files of the base model's folder that belong with a tokenizer or its use. */
const companions =
  /^(tokenizer.*\.json|tokenizer\.model|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json))$/;

/** Writes the trained weights, their config and the tokenizer into `folder`, each file whole or not at all. */
export async function writeModelFiles(
  folder: string,
  { model, lora, modelFolder, modelName }: PreparedRun,
): Promise<void> {
  for (const name of await readdir(modelFolder)) {
    if (!companions.test(name) && !(name === "generation_config.json" && !lora)) continue;
    await copyFile(join(modelFolder, name), join(folder, name));
    await sync(join(folder, name));
  }
  if (lora) {
    await writeSafetensors(join(folder, "adapter_model.safetensors"), adapterEntries(model));
    await writeSynced(join(folder, "adapter_config.json"), adapterConfigJson(lora.config, modelName, lora.paths));
    return;
  }
  await writeShardedSafetensors(
    folder,
    [...model.parameters.values()].map(({ name, shape, tensor }) => ({
      name,
      dtype: "F32" as const,
      shape,
      data: () => tensor.bytes(),
    })),
  );
  const { torch_dtype: _, ...source } = model.config.source;
  await writeSynced(join(folder, "config.json"), `${JSON.stringify({ ...source, dtype: "float32" }, null, 2)}\n`);
}
