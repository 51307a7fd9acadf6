/** How the files may spell a weight, and which row of an embedding is not trained. */
import { afterEach, expect, it } from "vitest";
import { loadCausalLM } from "../../src/models/load.js";
import { flush, liveTensors } from "../../src/torch/index.js";
import {
  disposeAll,
  inputs,
  loadTrained,
  lossAndGradients,
  ownWeights,
  readVariant,
  sampled,
  sequences,
  weightValues,
  writeVariant,
} from "../support/architectures.js";
import { temporaryFolders } from "../support/temporary.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

/** The largest gradient of the padding token's row of the embedding, where a batch has that token. */
async function paddingGradient(name: string, embedding: string, config = {}): Promise<number> {
  const model = await loadTrained(await writeVariant(readVariant(name), newFolder(), { config }));
  const { gradients } = await lossAndGradients(model, ownWeights(model), sequences([[7, 3, 9, 3, 8]]));
  const values = (await gradients.get(embedding)!.values()) as Float32Array;
  const { hiddenSize } = model.description;
  disposeAll(gradients);
  model.dispose();
  return Math.max(...values.slice(3 * hiddenSize, 4 * hiddenSize).map(Math.abs));
}

it("the padding token's row of the embedding gets no gradient, as torch.nn.Embedding's padding_idx has it", async () => {
  expect(await paddingGradient("llama", "model.embed_tokens.weight")).toBe(0);
  expect(await paddingGradient("llama", "model.embed_tokens.weight", { pad_token_id: null })).toBeGreaterThan(0.001);
  expect(await paddingGradient("llama", "model.embed_tokens.weight", { pad_token_id: 3 - 384 })).toBe(0);
  // GPT-2's and GPT-NeoX's classes give their embeddings none.
  expect(await paddingGradient("gpt2-scaled", "transformer.wte.weight")).toBeGreaterThan(0.001);
  expect(await paddingGradient("gpt-neox", "gpt_neox.embed_in.weight")).toBeGreaterThan(0.001);
});

it("GPT-NeoX's head has the name that transformers writes, or the one that it has in memory", async () => {
  const variant = readVariant("gpt-neox");
  const renamed = variant.tensors.map((tensor) =>
    tensor.name === "embed_out.weight" ? { ...tensor, name: "lm_head.weight" } : tensor,
  );
  const head = variant.tensors.find(({ name }) => name === "embed_out.weight")!;
  const values = new Map([["lm_head.weight", weightValues(head)]]);
  const logits = [];
  for (const tensors of [variant.tensors, renamed]) {
    const model = await loadCausalLM(await writeVariant({ ...variant, tensors }, newFolder(), { values }));
    logits.push(await sampled(model, inputs.short, inputs.short_positions));
    model.dispose();
  }
  expect(logits[1]).toEqual(logits[0]);
});
