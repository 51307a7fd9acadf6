/** Parameters and gradients for tests of optimizers. */
import { type AdamArguments, chooseOptimizer } from "../../src/optim/catalogue.js";
import type { Optimizer, TrainedParameter } from "../../src/optim/optimizer.js";
import { RuleOptimizer } from "../../src/optim/ruleOptimizer.js";
import { PlainStateMemory, type StateMemory } from "../../src/optim/stateMemory.js";
import { elementCount } from "../../src/support/shape.js";
import { keep, ops, scope } from "../../src/torch/index.js";

const POWERS = Array.from({ length: 13 }, (_, i) => 2 ** -i / 1024);

/** Numbers in (-1, 1) over four decades, exact in float32; the recipe of the goldens makes the same. */
export function scatter(count: number, seed: number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = (((i * 7919 + seed * 104729) % 2003) - 1001) * POWERS[i % 13]!;
  return values;
}

export type Shapes = Record<string, readonly number[]>;

const roleOf = (name: string) =>
  /embed_tokens/.test(name) ? "embedding" : /norm/.test(name) ? "norm" : /bias/.test(name) ? "bias" : "matrix";

/** One parameter for each shape; their seeds are 0, 1, … */
export function makeParameters(shapes: Shapes): TrainedParameter[] {
  return Object.entries(shapes).map(([name, shape], i) => ({
    name,
    role: roleOf(name),
    shape,
    tensor: keep(ops.float32(scatter(elementCount(shape), i), [...shape])),
  }));
}

/** The seed of a gradient, at an update counted from 1. */
export const gradientSeed = (step: number, parameter: number) => 10 * step + parameter;

export interface Choice {
  optim: string;
  optim_args?: string;
  adam?: AdamArguments;
  weightDecay?: number;
}

export const ADAM: AdamArguments = { beta1: 0.8, beta2: 0.95, eps: 1e-7 };

export function makeOptimizer(
  parameters: readonly TrainedParameter[],
  { optim, optim_args, adam = ADAM, weightDecay = 0.1 }: Choice,
  memory: StateMemory = new PlainStateMemory("cpu"),
): RuleOptimizer {
  const { rule } = chooseOptimizer(optim, optim_args ?? null, adam);
  return new RuleOptimizer(parameters, rule, weightDecay, memory);
}

/** Updates `from` to `to`, with a learning rate that falls. */
export function updates(
  optimizer: Optimizer,
  parameters: readonly TrainedParameter[],
  { from = 1, to, lr = 1e-2, gradientScale = 1 }: { from?: number; to: number; lr?: number; gradientScale?: number },
): void {
  for (let step = from; step <= to; step++) {
    scope(() => {
      const gradients = parameters.map(({ shape }, i) =>
        ops.float32(scatter(elementCount(shape), gradientSeed(step, i)), [...shape]),
      );
      optimizer.step(gradients, lr / step, gradientScale);
    });
  }
}
