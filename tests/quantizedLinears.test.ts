/** Layers with quantized weights against layers with the same weights as plain numbers: results and gradients. */
import { afterEach, describe, expect, it } from "vitest";
import {
  backward,
  type DType,
  flush,
  fused,
  gradOf,
  liveTensors,
  ops,
  scope,
  setRequiresGrad,
  type Tensor,
} from "../src/torch/index.js";
import { gradcheck, size, wave } from "./support/gradcheck.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const kinds: Record<string, (weight: Tensor) => Tensor[]> = {
  nf4: (weight) => fused.quantize4bit(weight, "nf4", false),
  "nf4, double": (weight) => fused.quantize4bit(weight, "nf4", true),
  "fp4, double": (weight) => fused.quantize4bit(weight, "fp4", true),
  int8: (weight) => fused.quantize8bit(weight),
};

const dense = (shape: number[], phase: number, dtype: DType) =>
  ops.to(ops.fromBytes(wave(size(shape), phase), "float64", shape), dtype);

const plain = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };

/** The numbers that a stored weight stands for, [out, in], exactly: its product with the unit matrix. */
function numbers([weight, ...scales]: Tensor[], width: number, dtype: DType): Tensor {
  const unit = Float64Array.from({ length: width ** 2 }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
  const x = ops.to(ops.fromBytes(unit, "float64", [width, width]), dtype);
  return ops.transpose(fused.linears(x, { weights: [weight!], scales: [scales], ...plain })[0]!, 0, 1);
}

/** Rows, inputs and outputs: the last are more than one tile. */
const shapes: [number, number, number][] = [
  [5, 26, 9],
  [3, 192, 130],
  [2, 256, 5000],
];

describe.each(Object.keys(kinds))("a weight in %s", (kind) => {
  it.each(shapes)("%i rows, %i to %i features: results and gradients", async (rows, width, out) => {
    const run = (quantized: boolean) =>
      scope(() => {
        const stored = kinds[kind]!(dense([out, width], 1, "float32"));
        const x = dense([rows, width], 2, "float64");
        setRequiresGrad(x, true);
        const scales = quantized ? [stored.slice(1)] : undefined;
        const weights = [quantized ? stored[0]! : numbers(stored, width, "float64")];
        const [y] = fused.linears(x, { weights, scales, ...plain });
        backward(y!, dense([rows, out], 3, "float64"));
        return [ops.detach(y!), gradOf(x)];
      });
    const [actual, expected] = [run(true), run(false)];
    for (const [i, tensor] of actual.entries()) {
      const reference = (await expected[i]!.values()) as Float64Array;
      const largest = reference.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      const worst = ((await tensor.values()) as Float64Array).reduce(
        (most, value, e) => Math.max(most, Math.abs(value - reference[e]!)),
        0,
      );
      expect(largest).toBeGreaterThan(1);
      expect(worst / largest).toBeLessThan(1e-14);
    }
    for (const tensor of [...actual, ...expected]) tensor.dispose();
  });

  it("stands for numbers near the weight's", async () => {
    const [near, weight] = scope(() => {
      const given = dense([40, 64], 5, "float32");
      return [numbers(kinds[kind]!(given), 64, "float32"), given];
    });
    const given = (await weight!.values()) as Float32Array;
    const worst = ((await near!.values()) as Float32Array).reduce(
      (most, value, i) => Math.max(most, Math.abs(value - given[i]!)),
      0,
    );
    near!.dispose();
    weight!.dispose();
    // half of the widest gap between two values, of numbers between -1 and 1
    expect(worst).toBeLessThan({ nf4: 0.152, "nf4, double": 0.155, "fp4, double": 0.17, int8: 0.0045 }[kind]!);
    expect(worst).toBeGreaterThan(0.001);
  });

  it.each(["float32", "float64", "bfloat16"] as const)("is dequantized to the same numbers, %s", async (dtype) => {
    const [exact, actual] = scope(() => {
      const [codes, ...scales] = kinds[kind]!(dense([90, 70], 5, "float32"));
      return [numbers([codes!, ...scales], 70, dtype), fused.dequantize(codes!, scales, dtype)];
    });
    expect(actual!.info.dtype).toBe(dtype);
    expect(actual!.shape).toEqual([90, 70]);
    expect(await actual!.values()).toEqual(await exact!.values());
    actual!.dispose();
    exact!.dispose();
  });

  it("rounds to the compute dtype once", async () => {
    const [low, exact] = scope(() => {
      const stored = kinds[kind]!(dense([6, 70], 5, "float32"));
      return [numbers(stored, 70, "bfloat16"), ops.to(numbers(stored, 70, "float32"), "bfloat16")];
    });
    expect(await low!.values()).toEqual(await exact!.values());
    low!.dispose();
    exact!.dispose();
  });

  it("has the gradients of finite differences, with LoRA, a norm, a mask and a bias", () =>
    gradcheck([[4, 18], [18], [3, 18], [7, 3]], ([x, norm, a, b]) => {
      const [weight, ...scales] = kinds[kind]!(dense([7, 18], 1, "float32"));
      return fused.normedLinears(x!, { kind: "rms", weight: norm!, eps: 1e-5, offset: 0 }, "float64", {
        weights: [weight!],
        scales: [scales],
        biases: [dense([7], 8, "float64")],
        a: [a],
        b: [b],
        scalings: [0.7],
        masks: [dense([4, 18], 9, "float64")],
      })[0]!;
    }));
});

it("a group holds dense and quantized layers", async () => {
  const [together, alone] = scope(() => {
    const x = dense([3, 64], 1, "float32");
    const [codes, ...scales] = kinds["nf4, double"]!(dense([8, 64], 2, "float32"));
    const weight = dense([5, 64], 3, "float32");
    const two = { biases: [undefined, undefined], a: [undefined, undefined], b: [undefined, undefined] };
    const group = {
      weights: [weight, codes!],
      scales: [[], scales],
      ...two,
      scalings: [0, 0],
      masks: [undefined, undefined],
    };
    const single = fused.linears(x, { weights: [codes!], scales: [scales], ...plain });
    return [ops.cat(fused.linears(x, group), 1), ops.cat([ops.linear(x, weight), ...single], 1)];
  });
  const expected = (await alone!.values()) as Float32Array;
  const actual = (await together!.values()) as Float32Array;
  for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 4);
  together!.dispose();
  alone!.dispose();
});

it("dequantizes quantized weights only", async () => {
  const y = scope(() => fused.dequantize(ops.zeros([4, 8]), [], "float32"));
  await expect(y.values()).rejects.toThrow("a dense weight is numbers already");
  y.dispose();
});

describe("a quantized weight that does not fit is refused", () => {
  const make: Record<string, [() => fused.LinearGroup, RegExp]> = {
    "too few scales": [
      () => ({ weights: [ops.zeros([4, 8], "uint8")], scales: [[ops.zeros([2])]], ...plain }),
      /codes must be .*Char/,
    ],
    "scales of another weight": [
      () => ({ weights: [ops.zeros([4, 8], "uint8")], scales: [[ops.zeros([2]), ops.zeros([16])]], ...plain }),
      /magnitudes must be .*\[1\], got .*\[2\]/,
    ],
    "a table of values that is too short": [
      () => ({ weights: [ops.zeros([4, 8], "uint8")], scales: [[ops.zeros([1]), ops.zeros([15])]], ...plain }),
      /values must be .*\[16\]/,
    ],
    "codes without scales": [() => ({ weights: [ops.zeros([4, 8], "uint8")], ...plain }), /floating dtype/],
    "another width": [
      () => ({ weights: [ops.zeros([4, 4], "uint8")], scales: [[ops.zeros([1]), ops.zeros([16])]], ...plain }),
      /expected a weight \[out, 16\], got \[4, 8\]/,
    ],
  };
  it.each(Object.keys(make))("%s", async (name) => {
    const [group, message] = make[name]!;
    const [y] = scope(() => fused.linears(ops.zeros([2, 16]), group()));
    y!.dispose();
    await expect(flush()).rejects.toThrow(message);
  });
});
