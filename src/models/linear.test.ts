/** Adapters that are more than an addition, against the same of single ops. */
import { afterEach, describe, expect, it } from "vitest";
import { worstDifference } from "../../tests/support/goldens.js";
import { flush, type fused, liveTensors, manualSeed, ops, scope, type Tensor } from "../torch/index.js";
import { forward, Linear, type LinearInput, type LoraWeights, squaredLengths } from "./linear.js";
import { float32Precision } from "./precision.js";
import { QuantizedWeight } from "./quantizedWeight.js";

const [N, IN, OUT, R] = [5, 12, 8, 3] as const;
afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

function normal(...shape: number[]): Tensor {
  const x = ops.empty(shape);
  ops.normal_(x, 0, 1);
  return x;
}

const valuesOf = async (x: Tensor) => (await x.values().finally(() => x.dispose())) as Float32Array;

/** W less what it was lessened by, plus the adapter: [OUT, IN]. */
function whole(weight: Tensor, { a, b, scaling, initial }: LoraWeights, adapter = true): Tensor {
  const product = (up: Tensor, down: Tensor, factor: number) => ops.mulScalar(ops.matmul(up, down), factor);
  const base = initial ? ops.add(weight, product(initial.b, initial.a, -scaling)) : weight;
  return adapter ? ops.add(base, product(b, a, scaling)) : base;
}

const lengths = (weight: Tensor) => ops.sumDim(ops.square(weight), 1);

describe.each<fused.Activation>(["silu", "gelu", "gelu_tanh", "relu", "relu2"])("behind %s", (activation) => {
  it.each([
    ["DoRA", true, false, false],
    ["DoRA with dropout", true, false, true],
    ["DoRA on a lessened base with dropout", true, true, true],
    ["a lessened base", false, true, false],
    ["a lessened base with dropout", false, true, true],
  ])("%s", async (_, dora, lessened, drops) => {
    manualSeed(1);
    const [actual, expected] = scope(() => {
      const [weight, bias, gate, up, residual] = [
        normal(OUT, IN),
        normal(OUT),
        normal(N, IN),
        normal(N, IN),
        normal(N, OUT),
      ];
      const mask = ops.empty([N, IN]);
      ops.bernoulli_(mask, 0.5);
      const lora: LoraWeights = {
        a: normal(R, IN),
        b: normal(OUT, R),
        rank: R,
        scaling: 0.5,
        dropout: drops ? 0.5 : 0,
      };
      if (lessened) lora.initial = { a: normal(R, IN), b: normal(OUT, R) };
      if (dora) [lora.magnitude, lora.squares] = [normal(OUT), lengths(weight)];
      const layer = new Linear({ path: "x", in: IN, out: OUT, bias: true }, weight, bias, float32Precision);
      layer.lora = lora;
      const input: LinearInput = { kind: "activated", activation, gate, up, residual: { x: residual, scale: 2 } };
      const source = { mask: () => ops.mulScalar(mask, 2) };
      const [y] = forward([layer], input, source);

      const identity = new Linear({ path: "i", in: IN, out: IN, bias: false }, eye(IN), undefined, float32Precision);
      const [x] = forward([identity], { kind: "activated", activation, gate, up });
      const dropped = drops ? ops.mul(x!, ops.mulScalar(mask, 2)) : x!;
      const base = whole(weight, lora, false);
      let sum = ops.linear(x!, base, bias);
      const adapter = ops.mulScalar(ops.linear(ops.linear(dropped, lora.a), lora.b), 0.5);
      if (dora) {
        const scale = ops.div(lora.magnitude!, ops.sqrt(lengths(whole(weight, lora))));
        const scaled = ops.mul(ops.add(ops.linear(dropped, base), adapter), scale);
        sum = ops.add(sum, ops.add(scaled, ops.neg(ops.linear(dropped, base))));
      } else {
        sum = ops.add(sum, adapter);
      }
      return [y!, ops.add(residual, ops.mulScalar(sum, 2))] as const;
    });
    expect(worstDifference(await valuesOf(actual), await valuesOf(expected))).toBeLessThan(1e-4);
  });
});

it("knows the lengths of rows of a quantized weight with its adapter", async () => {
  manualSeed(2);
  const [actual, expected] = scope(() => {
    const weight = new QuantizedWeight(normal(64, 64), { bits: 4, type: "nf4", double: false }, "cpu");
    const layer = new Linear({ path: "x", in: 64, out: 64, bias: false }, weight, undefined, float32Precision);
    const [dense] = forward([layer], { kind: "rows", x: eye(64) }); // Wᵀ
    const matrix = ops.transpose(dense!, 0, 1);
    const lora: LoraWeights = { a: normal(R, 64), b: normal(64, R), rank: R, scaling: 0.5, dropout: 0 };
    lora.squares = lengths(matrix);
    const results = [squaredLengths(layer, lora), lengths(whole(matrix, lora))] as const;
    weight.dispose();
    return results;
  });
  expect(worstDifference(await valuesOf(actual), await valuesOf(expected))).toBeLessThan(1e-4);
});

function eye(size: number): Tensor {
  const values = Float32Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0));
  return ops.float32(values, [size, size]);
}
