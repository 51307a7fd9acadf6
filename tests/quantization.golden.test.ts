/** Quantized weights are bitsandbytes', bit for bit: codes, magnitudes, and the values that layers multiply by. */
import { afterEach, describe, expect, it } from "vitest";
import { type DType, flush, fused, liveTensors, ops, scope, type Tensor } from "../src/torch/index.js";
import { readGoldens } from "./support/goldens.js";

const goldens = await readGoldens("quantization.safetensors");
const golden = (name: string) => {
  const found = goldens.get(name);
  if (!found) throw new Error(`no golden '${name}'`);
  return found;
};

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const stored = (name: string, dtype: DType) => {
  const { values, shape } = golden(name);
  return ops.to(ops.float32(values as Float32Array, shape), dtype);
};

/** Each tensor's numbers. */
async function numbersOf(tensors: Tensor[]): Promise<number[][]> {
  const numbers = await Promise.all(
    tensors.map(async (tensor) => {
      const bytes = await tensor.bytes();
      if (tensor.info.dtype === "int8") return Array.from(new Int8Array(bytes.buffer));
      return Array.from((await tensor.values()) as Float32Array);
    }),
  );
  for (const tensor of tensors) tensor.dispose();
  return numbers;
}

/** What the layer multiplies by: its product with the unit matrix, [in, in] · [out, in]ᵀ, which is exact. */
function valuesOf([weight, ...scales]: Tensor[], [out, width]: number[]): Tensor {
  const unit = Float32Array.from({ length: width! ** 2 }, (_, i) => (i % (width! + 1) === 0 ? 1 : 0));
  const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };
  const [y] = fused.linears(ops.float32(unit, [width!, width!]), { weights: [weight!], scales: [scales], ...none });
  return ops.reshape(ops.transpose(y!, 0, 1), [out!, width!]);
}

describe.each(["wide", "ragged"])("the weight '%s'", (name) => {
  describe.each(["nf4", "fp4"] as const)("in %s", (kind) => {
    it("has bitsandbytes' codes and magnitudes", async () => {
      const tensors = scope(() => fused.quantize4bit(stored(name, "float32"), kind, false));
      const [codes, magnitudes, values] = await numbersOf(tensors);
      expect(codes).toEqual(golden(`${name}.${kind}.codes`).values);
      expect(magnitudes).toEqual(Array.from(golden(`${name}.magnitudes`).values));
      expect(values).toEqual(Array.from(golden(`${name}.${kind}.values`).values));
    });

    it("has them with double quantization", async () => {
      const tensors = scope(() => fused.quantize4bit(stored(name, "float32"), kind, true));
      const [codes, nested, values, magnitudes, nestedValues, offset] = await numbersOf(tensors);
      expect(codes).toEqual(golden(`${name}.${kind}.codes`).values);
      expect(nested).toEqual(golden(`${name}.double.codes`).values);
      expect(values).toEqual(Array.from(golden(`${name}.${kind}.values`).values));
      expect(magnitudes).toEqual(Array.from(golden(`${name}.double.magnitudes`).values));
      expect(nestedValues).toEqual(Array.from(golden(`${name}.double.values`).values));
      expect(offset).toEqual(Array.from(golden(`${name}.double.offset`).values));
    });
  });

  it("has bitsandbytes' codes and magnitudes in 8 bits", async () => {
    const [codes, magnitudes] = await numbersOf(scope(() => fused.quantize8bit(stored(name, "float32"))));
    expect(codes).toEqual(golden(`${name}.int8.codes`).values);
    expect(magnitudes).toEqual(Array.from(golden(`${name}.int8.magnitudes`).values));
  });
});

it("bf16 weights get the codes of the same numbers in float32", async () => {
  const [codes] = await numbersOf(scope(() => fused.quantize4bit(stored("wide", "bfloat16"), "nf4", true)));
  expect(codes).toEqual(golden("wide.nf4.codes").values);
  const [rows] = await numbersOf(scope(() => fused.quantize8bit(stored("wide", "bfloat16"))));
  expect(rows).toEqual(golden("wide.int8.codes").values);
});

describe("a layer multiplies by bitsandbytes' dequantized values", () => {
  const cases: [string, (weight: Tensor) => Tensor[]][] = [
    ["ragged.nf4.dequantized", (weight) => fused.quantize4bit(weight, "nf4", false)],
    ["ragged.fp4.dequantized", (weight) => fused.quantize4bit(weight, "fp4", false)],
    ["ragged.nf4.double.dequantized", (weight) => fused.quantize4bit(weight, "nf4", true)],
    ["ragged.fp4.double.dequantized", (weight) => fused.quantize4bit(weight, "fp4", true)],
    ["ragged.int8.dequantized", (weight) => fused.quantize8bit(weight)],
  ];
  it.each(cases)("%s", async (name, quantize) => {
    const { shape, values } = golden(name);
    const [actual] = await numbersOf([scope(() => valuesOf(quantize(stored("ragged", "float32")), shape))]);
    expect(Math.max(...values)).toBeGreaterThan(0.05);
    // + 0: a product with the unit matrix has lost the zeros' signs
    expect(actual).toEqual(Array.from(values, (value) => value + 0));
  });
});

describe("what cannot be quantized is refused", () => {
  const refused = async (make: () => Tensor[], message: RegExp) => {
    for (const tensor of scope(make)) tensor.dispose();
    await expect(flush()).rejects.toThrow(message);
  };
  it.each([Number.NaN, Number.POSITIVE_INFINITY])("a weight with %s in it", async (bad) => {
    const values = new Float32Array(128).fill(0.5);
    values[77] = bad;
    await refused(() => fused.quantize4bit(ops.float32(values, [1, 128]), "nf4", true), /not finite/);
    await refused(() => fused.quantize8bit(ops.float32(values, [1, 128])), /not finite/);
  });
  it("a weight that leaves float16's range, in 8 bits", async () => {
    await refused(() => fused.quantize8bit(ops.float32([7e4, 1], [1, 2])), /not finite/);
  });
  it("an odd number of inputs in 4 bits, other types, other dtypes", async () => {
    await refused(() => fused.quantize4bit(ops.zeros([2, 3]), "nf4", false), /odd number of inputs, 3/);
    await refused(() => fused.quantize4bit(ops.zeros([2, 4]), "int4" as "nf4", false), /nf4 and fp4, got int4/);
    await refused(() => fused.quantize8bit(ops.zeros([2, 4], "int64")), /float32, float16 and bfloat16/);
  });
});
