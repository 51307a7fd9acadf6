/** Base and adapter in one, written as a model's folder, give the logits of PEFT's merge_and_unload. */
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { mergeAdapter } from "../../src/index.js";
import { loadCausalLM } from "../../src/models/load.js";
import { flush, liveTensors } from "../../src/torch/index.js";
import {
  expectLogits,
  inputs,
  readResults,
  readVariant,
  sampled,
  variantNames,
  writeAdapter,
  writeVariant,
} from "../support/architectures.js";
import { temporaryFolders } from "../support/temporary.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

it.each(variantNames)("%s", async (name) => {
  const variant = readVariant(name);
  const base = await writeVariant(variant, newFolder());
  const out = join(newFolder(), "merged");
  await mergeAdapter({ adapter: await writeAdapter(variant, newFolder()), model: base, out });
  const model = await loadCausalLM(out);
  expectLogits(
    await sampled(model, inputs.short, inputs.short_positions.slice(-1)),
    await readResults(name),
    "merged.",
  );
  model.dispose();
});
