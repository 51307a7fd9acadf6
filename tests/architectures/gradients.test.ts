/** Every architecture gives PyTorch's gradients, packed or not, with layers computed again or not. */
import { afterEach, describe, expect, it } from "vitest";
import type { Sequence } from "../../src/models/batch.js";
import { flush, liveTensors, type Tensor } from "../../src/torch/index.js";
import {
  adapterWeights,
  disposeAll,
  expectGradients,
  expectLogits,
  inputs,
  labelledRows,
  loadAdapted,
  loadTrained,
  lossAndGradients,
  ownWeights,
  readResults,
  readVariant,
  sampled,
  variantNames,
  writeAdapter,
  writeVariant,
} from "../support/architectures.js";
import { worstDifference } from "../support/goldens.js";
import { temporaryFolders } from "../support/temporary.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

/** Loss and every gradient's numbers of a model with all weights trained. */
async function numbers(folder: string, rows: readonly Sequence[], recomputeEvery = 0) {
  const model = await loadTrained(folder);
  const { loss, gradients } = await lossAndGradients(model, ownWeights(model), rows, recomputeEvery);
  const values = new Map<string, ArrayLike<number>>();
  for (const [name, gradient] of gradients) values.set(name, (await gradient.values()) as Float32Array);
  disposeAll(gradients);
  model.dispose();
  return { loss, values };
}

/** Rows joined into one packed row. */
function packed(rows: readonly Sequence[]): Sequence {
  const joined = (key: "inputIds" | "labels") => Int32Array.from(rows.flatMap((row) => Array.from(row[key])));
  return {
    inputIds: joined("inputIds"),
    labels: joined("labels"),
    lengths: rows.map(({ inputIds }) => inputIds.length),
  };
}

describe.each(variantNames)("%s", (name) => {
  const variant = readVariant(name);

  it("has transformers' loss and gradients, all weights trained", async () => {
    const results = await readResults(name);
    const model = await loadTrained(await writeVariant(variant, newFolder()));
    const { loss, gradients } = await lossAndGradients(model, ownWeights(model), labelledRows());
    expect(worstDifference([loss], results.get("loss")!.values)).toBeLessThan(1e-5);
    const names = variant.tensors.filter(({ role }) => role === undefined).map(({ name }) => name);
    await expectGradients(gradients, names, results.get("gradients")!);
    disposeAll(gradients);
    model.dispose();
  });

  it("has PEFT's logits, loss and gradients with an adapter on all linear layers", async () => {
    const results = await readResults(name);
    const folder = await writeVariant(variant, newFolder());
    const model = await loadAdapted(folder, await writeAdapter(variant, newFolder()));
    expectLogits(await sampled(model, inputs.short, inputs.short_positions.slice(-1)), results, "adapted.");
    const weights: Map<string, Tensor> = adapterWeights(model);
    const { loss, gradients } = await lossAndGradients(model, weights, labelledRows());
    expect(worstDifference([loss], results.get("adapted.loss")!.values)).toBeLessThan(1e-5);
    const names = variant.adapter.map(({ name }) => name);
    expect([...gradients.keys()]).toEqual(names); // PEFT's order too, in which it draws an adapter's first weights
    await expectGradients(gradients, names, results.get("adapted.gradients")!);
    disposeAll(gradients);
    model.dispose();
  });

  it("sees each example of a packed row by itself", async () => {
    const folder = await writeVariant(variant, newFolder());
    const apart = await numbers(folder, labelledRows());
    const together = await numbers(folder, [packed(labelledRows())]);
    expect(together.loss).toBeCloseTo(apart.loss, 6);
    for (const [key, expected] of apart.values) {
      expect(worstDifference(together.values.get(key)!, Array.from(expected)), key).toBeLessThan(1e-6);
    }
  });

  it("has the same gradients, bit for bit, where layers are computed again", async () => {
    const folder = await writeVariant(variant, newFolder());
    expect(await numbers(folder, labelledRows(), 1)).toEqual(await numbers(folder, labelledRows()));
  });
});
