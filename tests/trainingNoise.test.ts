/** Dropout and noise are drawn where they are asked for, and nowhere else. */
import { afterEach, expect, it } from "vitest";
import { collate, paddedShape } from "../src/models/batch.js";
import { loadCausalLM } from "../src/models/load.js";
import { flush, liveTensors, manualSeed, ops, rngState, setRequiresGrad } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { addLora } from "./support/lora.js";

afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

it("a loss with noise draws, one without does not and is the loss that an evaluation sees", async () => {
  const model = await loadCausalLM(fixturePath("tiny-llama"));
  addLora(model, { r: 4, lora_dropout: 0.5, target_modules: ["q_proj", "lm_head"] });
  for (const { lora } of model.linears.values()) {
    if (!lora) continue;
    ops.normal_(lora.b, 0, 0.5);
    setRequiresGrad(lora.b, true);
  }
  const rows = [3, 5].map((length) => {
    const inputIds = Int32Array.from({ length }, (_, i) => 7 * length + i);
    return { inputIds, labels: inputIds };
  });
  const batch = collate(rows);
  const scores = model.score(batch, { statistics: false, labelSmoothing: 0 });
  const expected = Array.from(await scores.losses.values(), Number).reduce((sum, loss) => sum + loss, 0);
  scores.losses.dispose();

  manualSeed(1);
  const before = await rngState();
  const plain = model.lossAndGradients(batch, 1);
  expect(await plain.item()).toBeCloseTo(expected, 4);
  expect(await rngState()).toEqual(before);

  const padded = paddedShape(rows, { paddingFree: false, padToMultipleOf: null });
  for (const neftuneAlpha of [null, 5]) {
    manualSeed(1);
    const noisy = model.lossAndGradients(batch, 1, { noise: { padded, neftuneAlpha } });
    expect(Math.abs((await noisy.item()) - (await plain.item()))).toBeGreaterThan(0.01);
    expect(await rngState()).not.toEqual(before);
    noisy.dispose();
  }
  plain.dispose();
  model.dispose();
});
