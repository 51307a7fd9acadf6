/**
 * The tiny models of tests/fixtures/architectures: their weights are computed from their names, as
 * tests/goldens/recipes/formula.py does, and what transformers makes of them is in tests/goldens/architectures.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { type TensorEntry, writeSafetensors } from "../../src/files/safetensorsWriter.js";
import { collate, type Sequence } from "../../src/models/batch.js";
import type { CausalLM } from "../../src/models/causalLM.js";
import { loadCausalLM } from "../../src/models/load.js";
import { loadAdapted as load } from "../../src/peft/loadAdapted.js";
import { editJson } from "../../src/support/editJson.js";
import { gradOf, setRequiresGrad, type Tensor } from "../../src/torch/index.js";
import { fixturePath, type Golden, readGoldenJson, readGoldens, worstDifference } from "./goldens.js";

interface WeightOf {
  name: string;
  shape: number[];
  around: number;
  spread: number;
  /** `carried`: belongs to another part of the checkpoint; `ignored`: transformers leaves it out. Absent: it is trained. */
  role?: "carried" | "ignored";
}

export interface Variant {
  name: string;
  modelType: string;
  config: Record<string, unknown>;
  tensors: WeightOf[];
  /** What PEFT calls the weights of an adapter on all linear layers, in its order. */
  adapter: WeightOf[];
}

interface Inputs {
  columns: number;
  short: number[][];
  short_positions: number[];
  long: number[][];
  long_positions: number[];
  padded: number[][];
  unlabelled: number;
  prompts: number[][];
  new_tokens: number;
  adapter: { r: number; lora_alpha: number };
}

const root = (path: string) => fixturePath(`architectures/${path}`);
const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));

export const inputs = readGoldenJson<Inputs>("architectures/inputs.json");
export const modelTypes = json(root("variants.json")) as Record<string, string>;
export const variantNames = Object.keys(modelTypes);

type Line = [string, number[], number, number, WeightOf["role"]];

/** Its config.json as transformers wrote it. */
export const configText = (name: string): string => readFileSync(root(`${name}/config.json`), "utf8");

export function readVariant(name: string): Variant {
  const { tensors, adapter } = json(root(`${name}/weights.json`)) as { tensors: Line[]; adapter: Line[] };
  const weights = (lines: Line[]) =>
    lines.map(([name, shape, around, spread, role]) => ({ name, shape, around, spread, role }));
  const config = json(root(`${name}/config.json`));
  return { name, modelType: modelTypes[name]!, config, tensors: weights(tensors), adapter: weights(adapter) };
}

/** The variant's config.json as transformers 4 spelled it; undefined where it would be the same. */
export function legacyConfig(name: string): Record<string, unknown> | undefined {
  const path = root(`${name}/legacy.json`);
  return existsSync(path) ? json(path) : undefined;
}

export const readResults = (name: string) => readGoldens(`architectures/${name}.safetensors`);

/** Numbers in [-1, 1) that a name stands for: a hash of its FNV-1a and the place, on a grid of 2⁻²³. */
export function unit(name: string, count: number): Float32Array {
  let seed = 2166136261;
  for (const byte of Buffer.from(name)) seed = Math.imul(seed ^ byte, 16777619);
  return Float32Array.from({ length: count }, (_, i) => {
    let h = (Math.imul(i, 0x9e3779b9) + seed) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h ^= h >>> 16;
    return (h >>> 8) * 2 ** -23 - 1;
  });
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

/** around + spread · unit, rounded to float32 after each of the two. */
export function weightValues({ name, shape, around, spread }: WeightOf): Float32Array {
  const factor = Math.fround(spread);
  return unit(name, sizeOf(shape)).map((value) => around + Math.fround(factor * value));
}

const entry = (name: string, shape: number[], values: Float32Array): TensorEntry => ({
  name,
  dtype: "F32",
  shape,
  data: async () => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
});

export interface VariantChanges {
  /** Keys of config.json that differ. */
  config?: Record<string, unknown>;
  /** Values of the file's tensors that are not the formula's. */
  values?: ReadonlyMap<string, Float32Array>;
  /** Where to take a tokenizer from: a folder of tests/fixtures. */
  tokenizer?: string;
}

/** Writes the variant's model folder into an empty folder, which is returned. */
export async function writeVariant(variant: Variant, folder: string, changes: VariantChanges = {}): Promise<string> {
  const { config = {}, values, tokenizer } = changes;
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "config.json"),
    editJson(configText(variant.name), (written) => ({ ...written, ...config })),
  );
  const entries = variant.tensors.map((tensor) =>
    entry(tensor.name, tensor.shape, values?.get(tensor.name) ?? weightValues(tensor)),
  );
  await writeSafetensors(join(folder, "model.safetensors"), entries);
  if (tokenizer) {
    for (const file of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
      copyFileSync(fixturePath(`${tokenizer}/${file}`), join(folder, file));
    }
  }
  return folder;
}

/** Writes the adapter on all linear layers as PEFT would have saved it. */
export async function writeAdapter({ adapter }: Variant, folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const { r, lora_alpha } = inputs.adapter;
  // Whole paths: PEFT shortens them to last names, which here would mean the towers of a multimodal model too.
  const paths = adapter.map(({ name }) => name.slice("base_model.model.".length).replace(/\.lora_[AB]\.weight$/, ""));
  const config = { peft_type: "LORA", task_type: "CAUSAL_LM", r, lora_alpha, target_modules: [...new Set(paths)] };
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify(config));
  const entries = adapter.map((tensor) => entry(tensor.name, tensor.shape, weightValues(tensor)));
  await writeSafetensors(join(folder, "adapter_model.safetensors"), entries);
  return folder;
}

/** Whole rows, each token a label. */
export const sequences = (rows: readonly number[][]): Sequence[] =>
  rows.map((row) => ({ inputIds: Int32Array.from(row), labels: Int32Array.from(row) }));

/** The rows of the goldens' losses. */
export const labelledRows = (): Sequence[] =>
  sequences(inputs.padded).map(({ inputIds, labels }) => ({
    inputIds,
    labels: labels.fill(-100, 0, inputs.unlabelled),
  }));

/** The logits of whole rows of one length, [rows · length · V], at positions of each: what the goldens have of them. */
export async function sampled(model: CausalLM, rows: number[][], positions: readonly number[]) {
  const logits = model.logits(collate(sequences(rows)));
  const all = (await logits.values()) as Float32Array;
  const vocabulary = logits.shape[1]!;
  logits.dispose();
  const chosen: number[] = [];
  const sums: number[] = [];
  for (const row of rows.keys()) {
    for (const position of positions) {
      const start = (row * rows[0]!.length + position) * vocabulary;
      const values = all.subarray(start, start + vocabulary);
      const most = Math.max(...values);
      sums.push(most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0)));
      for (let column = 0; column < vocabulary; column += inputs.columns) chosen.push(values[column]!);
    }
  }
  return { logits: chosen, sums };
}

/** Within 1e-4 of the goldens named `<prefix>logits` and `<prefix>sums`. */
export function expectLogits(
  actual: { logits: number[]; sums: number[] },
  results: Map<string, Golden>,
  prefix: string,
): void {
  for (const [name, values] of Object.entries(actual)) {
    const golden = results.get(`${prefix}${name}`)!;
    expect(worstDifference(values, golden.values), `${prefix}${name}`).toBeLessThan(1e-4);
  }
}

/** What a gradient is in the goldens: norm, products with two vectors that its name stands for, first four elements. */
function summary(name: string, values: Float32Array): number[] {
  const product = (other: Float32Array) => values.reduce((sum, value, i) => sum + value * other[i]!, 0);
  const products = [0, 1].map((i) => product(unit(`${name}#${i}`, values.length)));
  return [Math.sqrt(product(values)), ...products, ...Array.from({ length: 4 }, (_, i) => values[i] ?? 0)];
}

/**
 * Each gradient's summary against the golden's row for it: within 1e-4 of the gradient's norm, and where that is nearly
 * nothing (a bias that cancels out in the softmax), of a hundredth.
 */
export async function expectGradients(
  gradients: ReadonlyMap<string, Tensor>,
  names: readonly string[],
  golden: Golden,
): Promise<void> {
  expect([...gradients.keys()].sort()).toEqual([...names].sort());
  const [, width] = golden.shape;
  for (const [row, name] of names.entries()) {
    const expected = Array.from(golden.values.slice(row * width!, (row + 1) * width!), Number);
    const actual = summary(name, (await gradients.get(name)!.values()) as Float32Array);
    const scale = Math.max(expected[0]!, 0.01);
    for (const [i, value] of actual.entries()) {
      expect(Math.abs(value - expected[i]!) / scale, `${name}, number ${i}: ${value}, ${expected[i]}`).toBeLessThan(
        1e-4,
      );
    }
  }
}

/** The name that a parameter has in the files. */
const storedName = ({ name, stored }: { name: string; stored?: string }) => stored ?? name;

/** Names in the files by Python's names. */
export const storedNames = (model: CausalLM): Map<string, string> =>
  new Map([...model.parameters.values()].map((parameter) => [parameter.name, storedName(parameter)]));

/** The weights that are trained, by the names that the goldens have for them. */
export const ownWeights = (model: CausalLM): Map<string, Tensor> =>
  new Map([...model.parameters.values()].map((parameter) => [storedName(parameter), parameter.tensor]));

/** The adapter's weights by PEFT's names. */
export const adapterWeights = (model: CausalLM): Map<string, Tensor> =>
  new Map(
    [...model.linears].flatMap(([path, { lora }]): [string, Tensor][] =>
      lora
        ? [
            [`base_model.model.${path}.lora_A.weight`, lora.a],
            [`base_model.model.${path}.lora_B.weight`, lora.b],
          ]
        : [],
    ),
  );

/** The loss of some rows and the gradients that they leave, which are the caller's. */
export async function lossAndGradients(
  model: CausalLM,
  weights: ReadonlyMap<string, Tensor>,
  rows: readonly Sequence[],
  recomputeEvery = 0,
): Promise<{ loss: number; gradients: Map<string, Tensor> }> {
  for (const weight of weights.values()) setRequiresGrad(weight, true);
  const batch = collate(rows);
  const loss = model.lossAndGradients(batch, batch.targets.length, { recomputeEvery });
  const gradients = new Map([...weights].map(([name, weight]) => [name, gradOf(weight)]));
  const value = await loss.item();
  loss.dispose();
  return { loss: value, gradients };
}

export function disposeAll(tensors: ReadonlyMap<string, Tensor>): void {
  for (const tensor of tensors.values()) tensor.dispose();
}

/** The variant's model with all weights trained. */
export const loadTrained = (folder: string) => loadCausalLM(folder, { trained: () => true });

/** The variant's model with the adapter of `writeAdapter` on it. */
export const loadAdapted = (folder: string, adapterFolder: string): Promise<CausalLM> =>
  load(folder, adapterFolder, {});
