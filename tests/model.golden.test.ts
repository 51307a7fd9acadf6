/** Logits and gradients against transformers, for every variant of the architecture. */
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { collate } from "../src/models/batch.js";
import { loadCausalLM } from "../src/models/load.js";
import { flush, gradOf, liveTensors, scope, setRequiresGrad } from "../src/torch/index.js";
import { fixturePath, readGoldens, worstDifference } from "./support/goldens.js";

const variants = JSON.parse(readFileSync(fixturePath("variants.json"), "utf8")) as string[];

/** The rows of a [rows, length] golden as sequences. */
function sequences(values: ArrayLike<number>, [rows, length]: number[]) {
  return Array.from({ length: rows! }, (_, row) => {
    const inputIds = Int32Array.from({ length: length! }, (_, i) => values[row * length! + i]!);
    return { inputIds, labels: inputIds };
  });
}

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

describe.each(variants)("%s", (name) => {
  it("has transformers' logits", async () => {
    const goldens = await readGoldens(`logits/${name}.safetensors`);
    const model = await loadCausalLM(fixturePath(name));
    const { values, shape } = goldens.get("input_ids")!;
    const logits = model.logits(collate(sequences(values, shape)));
    expect(worstDifference(await logits.values(), goldens.get("logits")!.values)).toBeLessThan(1e-4);
    logits.dispose();
    model.dispose();
  });

  it("has transformers' logits beyond the short positions", async () => {
    const goldens = await readGoldens(`logits/${name}.safetensors`);
    const model = await loadCausalLM(fixturePath(name));
    const ids = goldens.get("long_input_ids")!;
    const logits = model.logits(collate(sequences(ids.values, ids.shape)));
    const all = await logits.values();
    const vocabulary = model.description.vocabSize;
    const at = Array.from(goldens.get("long_positions")!.values, Number);
    const chosen = at.flatMap((position) =>
      Array.from(all.slice(position * vocabulary, (position + 1) * vocabulary), Number),
    );
    expect(worstDifference(chosen, goldens.get("long_logits")!.values)).toBeLessThan(1e-4);
    logits.dispose();
    model.dispose();
  });
});

describe.each(["tiny-llama", "tiny-llama-tied"])("%s", (name) => {
  it("has transformers' loss and gradients", async () => {
    const goldens = await readGoldens(`logits/${name}.gradients.safetensors`);
    const model = await loadCausalLM(fixturePath(name), { trained: () => true });
    const { values, shape } = goldens.get("input_ids")!;
    const mask = goldens.get("attention_mask")!.values;
    const labels = goldens.get("labels")!.values;
    const length = shape[1]!;
    const batch = collate(
      sequences(values, shape).map(({ inputIds }, row) => {
        const real = Array.from({ length }, (_, i) => mask[row * length + i]!).filter((bit) => bit === 1).length;
        const rowLabels = Int32Array.from({ length: real }, (_, i) => labels[row * length + i]!);
        return { inputIds: inputIds.slice(0, real), labels: rowLabels };
      }),
    );
    for (const { tensor } of model.parameters.values()) setRequiresGrad(tensor, true);
    const loss = model.lossAndGradients(batch, batch.targets.length);
    expect(await loss.item()).toBeCloseTo(goldens.get("loss")!.values[0]!, 5);
    for (const [key, { values: expected }] of goldens) {
      if (!key.startsWith("grad.")) continue;
      const gradient = scope(() => gradOf(model.parameters.get(key.slice(5))!.tensor));
      expect(worstDifference(await gradient.values(), expected), key).toBeLessThan(1e-4);
      gradient.dispose();
    }
    loss.dispose();
    model.dispose();
  });
});
