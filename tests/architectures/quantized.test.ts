/** Every architecture in 4 bits computes with bitsandbytes' dequantized weights: those of all linear layers but the head. */
import { afterEach, expect, it } from "vitest";
import { loadCausalLM } from "../../src/models/load.js";
import { flush, fused, liveTensors, ops, scope } from "../../src/torch/index.js";
import {
  inputs,
  readVariant,
  sampled,
  storedNames,
  type Variant,
  variantNames,
  weightValues,
  writeVariant,
} from "../support/architectures.js";
import { worstDifference } from "../support/goldens.js";
import { temporaryFolders } from "../support/temporary.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

/** A matrix with rows and columns exchanged. */
const exchanged = (values: Float32Array, [rows, columns]: number[]) =>
  Float32Array.from(values, (_, i) => values[(i % rows!) * columns! + Math.floor(i / rows!)]!);

/** What a layer in 4 bits multiplies by, [out, in]: its product with the unit matrix, [in, in] · [out, in]ᵀ, as columns. */
async function dequantized(values: Float32Array, [out, width]: number[]): Promise<Float32Array> {
  const one = Float32Array.from({ length: width! ** 2 }, (_, i) => (i % (width! + 1) === 0 ? 1 : 0));
  const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };
  const product = scope(() => {
    const [codes, ...scales] = fused.quantize4bit(ops.float32(values, [out!, width!]), "nf4", true);
    return fused.linears(ops.float32(one, [width!, width!]), { weights: [codes!], scales: [scales], ...none })[0]!;
  });
  const columns = (await product.values()) as Float32Array; // [in, out]
  product.dispose();
  return exchanged(columns, [width!, out!]);
}

/** Values of the tensors that quantization changes, by their names in the file. */
async function dequantizedValues({ tensors, adapter, modelType }: Variant, stored: ReadonlyMap<string, string>) {
  const values = new Map<string, Float32Array>();
  for (const { name } of adapter) {
    const path = name.slice("base_model.model.".length);
    if (!path.endsWith(".lora_A.weight")) continue;
    const file = stored.get(path.replace(".lora_A.weight", ".weight"))!;
    const described = tensors.find(({ name }) => name === file)!;
    const { shape } = described;
    const plain = weightValues(described);
    const turned = [shape[1]!, shape[0]!];
    const conv1D = modelType === "gpt2"; // its weights are [in, out]
    values.set(
      file,
      conv1D ? exchanged(await dequantized(exchanged(plain, shape), turned), turned) : await dequantized(plain, shape),
    );
  }
  return values;
}

async function logitsOf(folder: string, options: Parameters<typeof loadCausalLM>[1] = {}) {
  const model = await loadCausalLM(folder, options);
  const { logits } = await sampled(model, inputs.short, inputs.short_positions);
  const stored = storedNames(model);
  model.dispose();
  return { logits, stored };
}

it.each(variantNames)("%s", async (name) => {
  const variant = readVariant(name);
  const folder = await writeVariant(variant, newFolder());
  const { logits: exact, stored } = await logitsOf(folder);
  const values = await dequantizedValues(variant, stored);
  const expected = await logitsOf(await writeVariant(variant, newFolder(), { values }));
  const actual = await logitsOf(folder, { quantization: { bits: 4, type: "nf4", double: true } });
  expect(worstDifference(exact, expected.logits)).toBeGreaterThan(0.01);
  expect(worstDifference(actual.logits, expected.logits)).toBeLessThan(1e-4);
});
