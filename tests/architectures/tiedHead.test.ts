/** A head is tied where config.json and the weights agree on it; transformers goes by the weights where they do not. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { loadCausalLM } from "../../src/models/load.js";
import { readVariant, type Variant, weightValues, writeVariant } from "../support/architectures.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tied-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Whether a model has a head of its own when its files hold one more weight, with the embedding's numbers or others. */
async function hasOwnHead(name: string, head: string | undefined, same = false): Promise<boolean> {
  const variant: Variant = readVariant(name);
  const embedding = variant.tensors.find((tensor) => tensor.name.endsWith("embed_tokens.weight"))!;
  const added = head ? [...variant.tensors, { ...embedding, name: head }] : variant.tensors;
  const values = head && same ? new Map([[head, weightValues(embedding)]]) : undefined;
  const changes = { config: { tie_word_embeddings: undefined }, values };
  const model = await loadCausalLM(await writeVariant({ ...variant, tensors: added }, folder, changes));
  const own = model.parameters.has("lm_head.weight");
  model.dispose();
  return own;
}

it.each([
  ["gemma", "lm_head.weight"],
  ["gemma3", "language_model.lm_head.weight"],
])("%s", async (name, head) => {
  expect(await hasOwnHead(name, undefined)).toBe(false);
  expect(await hasOwnHead(name, head, true)).toBe(false);
  expect(await hasOwnHead(name, head)).toBe(true);
});
