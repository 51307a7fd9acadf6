/** Gradients of an op against finite differences of it, in float64. */
import { expect } from "vitest";
import { backward, flush, gradOf, noGrad, ops, scope, setRequiresGrad, type Tensor } from "../../src/torch/index.js";

/** Values that look random but are the same everywhere. */
export const wave = (length: number, phase: number) =>
  Float64Array.from({ length }, (_, i) => Math.sin(i * 1.7 + Math.sin(i * i + phase) * 3 + phase));

export const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/**
 * Expects d Σ(body(inputs)·w) / d inputs, for fixed weights w, as autograd has it to be what central differences give.
 * @param shapes of the inputs, which are waves
 */
export async function gradcheck(shapes: number[][], body: (inputs: Tensor[]) => Tensor): Promise<void> {
  const values = shapes.map((shape, i) => wave(size(shape), i));
  const make = () => shapes.map((shape, i) => ops.fromBytes(values[i]!, "float64", shape));
  const weighed = (y: Tensor): Tensor => {
    const shape = y.shape;
    return ops.sum(ops.mul(y, ops.fromBytes(wave(size(shape), 99), "float64", shape)));
  };
  const evaluate = async () => {
    const loss = noGrad(() => scope(() => weighed(body(make()))));
    const value = await loss.item();
    loss.dispose();
    return value;
  };
  const gradients = scope(() => {
    const inputs = make();
    for (const input of inputs) setRequiresGrad(input, true);
    backward(weighed(body(inputs)));
    return inputs.map(gradOf);
  });
  const step = 1e-5;
  for (const [i, gradient] of gradients.entries()) {
    const analytic = (await gradient.values()) as Float64Array;
    for (let e = 0; e < analytic.length; e++) {
      const middle = values[i]![e]!;
      values[i]![e] = middle + step;
      const above = await evaluate();
      values[i]![e] = middle - step;
      const below = await evaluate();
      values[i]![e] = middle;
      const numeric = (above - below) / (2 * step);
      expect(Math.abs(analytic[e]! - numeric), `input ${i}, element ${e}: ${analytic[e]} and ${numeric}`).toBeLessThan(
        1e-8 + 1e-7 * Math.abs(numeric),
      );
    }
    gradient.dispose();
  }
  await flush();
}
