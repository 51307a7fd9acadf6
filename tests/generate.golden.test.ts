/** Greedy generation against transformers, alone, in batches of unequal prompts, and as a stream. */
import { afterEach, describe, expect, it } from "vitest";
import { draw } from "../src/generate/choose.js";
import { Session } from "../src/generate/session.js";
import { loadGenerator } from "../src/index.js";
import { collate } from "../src/models/batch.js";
import { loadCausalLM } from "../src/models/load.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { fixturePath, readGoldenJson, worstDifference } from "./support/goldens.js";

interface Cases {
  max_new_tokens: number;
  cases: Record<string, { prompt: string; input_ids: number[]; new_ids: number[] }[]>;
}

const golden = readGoldenJson<Cases>("generation.json");

/** A case named after an adapter is that adapter on its base model. */
const sourceOf = (name: string) =>
  name.endsWith("-adapter")
    ? { model: fixturePath(name.replace("-adapter", "")), adapter: fixturePath(name) }
    : { model: fixturePath(name) };

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

describe.each(Object.keys(golden.cases))("%s", (name) => {
  const cases = golden.cases[name]!;

  it("continues all prompts together as transformers does each alone", async () => {
    const generator = await loadGenerator(sourceOf(name));
    const texts = await generator.complete(
      cases.map(({ prompt }) => prompt),
      { max_new_tokens: golden.max_new_tokens },
    );
    const expected = cases.map(({ new_ids }) => generator.tokenizer.decode(new_ids, { skipSpecialTokens: true }));
    expect(texts).toEqual(expected);
    generator.dispose();
  });

  it("streams the same text", async () => {
    const generator = await loadGenerator(sourceOf(name));
    for (const { prompt, new_ids } of cases) {
      let text = "";
      for await (const piece of generator.stream(prompt, { max_new_tokens: golden.max_new_tokens })) text += piece;
      expect(text).toBe(generator.tokenizer.decode(new_ids, { skipSpecialTokens: true }));
    }
    generator.dispose();
  });
});

it("gives the same logits step by step as in one pass, beyond a block of the cache", async () => {
  const model = await loadCausalLM(fixturePath("tiny-llama"));
  const ids = Int32Array.from({ length: 150 }, (_, i) => (i * 37) % 384);
  const prompts = [ids.slice(0, 3), ids.slice(0, 7)];
  const session = new Session(model, prompts);
  session.start().dispose();
  let logits = session.step([ids[3]!, ids[7]!]);
  for (let i = 1; i < 140; i++) {
    logits.dispose();
    logits = session.step([ids[3 + i]!, ids[7 + i]!]);
  }
  const rows = await logits.values();
  const vocabulary = model.description.vocabSize;
  for (const [row, prompt] of prompts.entries()) {
    const whole = ids.slice(0, prompt.length + 140);
    const all = model.logits(collate([{ inputIds: whole, labels: whole }]));
    const expected = (await all.values()).slice(-vocabulary) as Float32Array;
    expect(worstDifference(rows.slice(row * vocabulary, (row + 1) * vocabulary), expected)).toBeLessThan(1e-4);
    all.dispose();
  }
  logits.dispose();
  session.dispose();
  model.dispose();
});

describe("draw", () => {
  const logits = Float32Array.from([0, Math.log(2), Math.log(4), Math.log(1)]); // shares 1/8, 2/8, 4/8, 1/8

  it("takes tokens by their share, likeliest first", () => {
    expect(draw(logits, 0.49, {})).toBe(2);
    expect(draw(logits, 0.51, {})).toBe(1);
    expect(draw(logits, 0.76, {})).toBe(0);
    expect(draw(logits, 0.99, {})).toBe(3);
  });

  it("keeps to top_k and top_p", () => {
    expect(draw(logits, 0.999, { top_k: 1 })).toBe(2);
    expect(draw(logits, 0.999, { top_p: 0.5 })).toBe(2);
    expect(draw(logits, 0.999, { top_p: 0.6 })).toBe(1);
  });

  it("sharpens with a low temperature", () => {
    expect(draw(logits, 0.99, { temperature: 0.1 })).toBe(2);
  });
});
