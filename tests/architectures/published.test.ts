/** config.json as it is published (tests/fixtures/model-configs): each is read, and describes a model of the published size. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseModelConfig } from "../../src/models/config.js";
import { weightsOf } from "../../src/models/description.js";
import { fixturePath } from "../support/goldens.js";

/** Numbers of the text model, counted on transformers 5.18's models on the meta device; of a tied head once. */
const SIZES: Record<string, number> = {
  "Llama-3.1-8B": 8_030_261_248,
  "Llama-3.2-1B-Instruct": 1_235_814_400,
  "Llama-3.2-3B": 3_212_749_824,
  "Mistral-7B-v0.3": 7_248_023_552,
  "Phi-3.5-mini-instruct": 3_821_079_552,
  "Qwen2.5-0.5B-Instruct": 494_032_768,
  "Qwen2.5-1.5B": 1_543_714_304,
  "Qwen2.5-7B": 7_615_616_512,
  "Qwen3-0.6B": 596_049_920,
  "Qwen3-4B": 4_022_468_096,
  "Qwen3-8B": 8_190_735_360,
  "SmolLM2-1.7B": 1_711_376_384,
  "SmolLM2-135M": 134_515_008,
  "SmolLM2-360M": 361_821_120,
  "SmolLM3-3B": 3_075_098_624,
  "gemma-2-2b": 2_614_341_888,
  "gemma-3-1b-it": 999_885_952,
  "gemma-3-4b-it": 3_880_263_168, // 4,300,079,472 with what sees
  gpt2: 124_439_808,
};

const folder = fixturePath("model-configs");

it("has every file", () => {
  const files = readdirSync(folder).map((file) => file.replace(/\.json$/, ""));
  expect(files.sort()).toEqual(Object.keys(SIZES).sort());
});

it.each(Object.entries(SIZES))("%s has %i numbers", (name, size) => {
  const file = `${name}.json`;
  const description = parseModelConfig(readFileSync(`${folder}/${file}`, "utf8"), file);
  const numbers = weightsOf(description).map(({ shape }) => shape.reduce((product, length) => product * length, 1));
  expect(numbers.reduce((sum, count) => sum + count, 0)).toBe(size);
});
