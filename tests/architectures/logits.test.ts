/** Every architecture gives transformers' logits, and continues prompts through the cache as it does. */
import { afterEach, describe, expect, it } from "vitest";
import { Session } from "../../src/generate/session.js";
import { loadCausalLM } from "../../src/models/load.js";
import { flush, liveTensors } from "../../src/torch/index.js";
import {
  expectLogits,
  inputs,
  legacyConfig,
  readResults,
  readVariant,
  sampled,
  variantNames,
  writeVariant,
} from "../support/architectures.js";
import { temporaryFolders } from "../support/temporary.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const load = async (name: string) => loadCausalLM(await writeVariant(readVariant(name), newFolder()));

describe.each(variantNames)("%s", (name) => {
  it("has transformers' logits", async () => {
    const model = await load(name);
    expectLogits(await sampled(model, inputs.short, inputs.short_positions), await readResults(name), "");
    model.dispose();
  });

  it("has transformers' logits in a long row", async () => {
    const model = await load(name);
    expectLogits(await sampled(model, inputs.long, inputs.long_positions), await readResults(name), "long_");
    model.dispose();
  });

  it("continues prompts as transformers does, together and through the cache", async () => {
    const { values } = (await readResults(name)).get("generated")!;
    const model = await load(name);
    const session = new Session(
      model,
      inputs.prompts.map((prompt) => Int32Array.from(prompt)),
    );
    const rows = inputs.prompts.map((): number[] => []);
    let logits = session.start();
    for (let count = 1; ; count++) {
      const all = (await logits.values()) as Float32Array;
      const vocabulary = logits.shape[1]!;
      logits.dispose();
      const chosen = rows.map((_, row) => {
        const scores = all.subarray(row * vocabulary, (row + 1) * vocabulary);
        return scores.indexOf(Math.max(...scores));
      });
      for (const [row, id] of chosen.entries()) rows[row]!.push(id);
      if (count === inputs.new_tokens) break;
      logits = session.step(chosen);
    }
    session.dispose();
    model.dispose();
    expect(rows.flat()).toEqual(Array.from(values, Number));
  });
});

it.each(variantNames.filter(legacyConfig))("%s is the same model in the spelling of transformers 4", async (name) => {
  const variant = { ...readVariant(name), config: legacyConfig(name)! };
  const model = await loadCausalLM(await writeVariant(variant, newFolder()));
  expectLogits(await sampled(model, inputs.long, inputs.long_positions), await readResults(name), "long_");
  model.dispose();
});
