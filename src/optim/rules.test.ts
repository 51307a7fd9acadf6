/** Every update rule against its textbook form in float64, element by element, with decay, clipping and a falling rate. */
import { afterEach, describe, expect, it } from "vitest";
import { ADAM, gradientSeed, makeOptimizer, makeParameters, scatter, updates } from "../../tests/support/optimizers.js";
import { flush, liveTensors } from "../torch/index.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

const [ROWS, COLUMNS] = [5, 7];
const shapes = { "layers.0.up_proj.weight": [ROWS, COLUMNS], "norm.weight": [17] };
const [STEPS, LR, SCALE, DECAY] = [20, 1e-2, 0.75, 0.1];

/** One update of p; `states` are zeros at first, and what the rule makes of them. */
type Textbook = (p: number, g: number, states: number[], step: { t: number; lr: number; decay: number }) => number;

const { beta1, beta2, eps } = ADAM;
const ema = (beta: number, before: number, now: number) => beta * before + (1 - beta) * now;

const adamW: Textbook = (p, g, s, { t, lr, decay }) => {
  s[0] = ema(beta1, s[0]!, g);
  s[1] = ema(beta2, s[1]!, g * g);
  return p - lr * decay * p - (lr * (s[0] / (1 - beta1 ** t))) / (Math.sqrt(s[1] / (1 - beta2 ** t)) + eps);
};
const lion: Textbook = (p, g, s, { lr, decay }) => {
  const direction = Math.sign(ema(beta1, s[0]!, g));
  s[0] = ema(beta2, s[0]!, g);
  return p - lr * decay * p - lr * direction;
};
/** α = 3 and β3 = 0.99, reached over 8 and 12 updates. */
const adEMAMix: Textbook = (p, g, s, { t, lr, decay }) => {
  const halfLife = (beta: number) => 1 / Math.log(beta); // but for a factor; it is what grows linearly
  const share = Math.min(1, t / 12);
  const beta3 = Math.exp(1 / ((1 - share) * halfLife(beta1) + share * halfLife(0.99)));
  s[0] = ema(beta1, s[0]!, g);
  s[1] = ema(beta3, s[1]!, g);
  s[2] = ema(beta2, s[2]!, g * g);
  const mixed = s[0] / (1 - beta1 ** t) + 3 * Math.min(1, t / 8) * s[1];
  return p - lr * decay * p - (lr * mixed) / (Math.sqrt(s[2] / (1 - beta2 ** t)) + eps);
};
const sgd =
  (momentum: number, dampening: number, nesterov: boolean): Textbook =>
  (p, gradient, s, { t, lr, decay }) => {
    const g = gradient + decay * p;
    s[0] = t === 1 ? g : momentum * s[0]! + (1 - dampening) * g;
    return p - lr * (nesterov ? g + momentum * s[0] : s[0]);
  };
const rmsprop =
  (alpha: number, epsilon: number, momentum: number, centered: boolean): Textbook =>
  (p, gradient, s, { lr, decay }) => {
    const g = gradient + decay * p;
    s[0] = ema(alpha, s[0]!, g * g);
    s[1] = ema(alpha, s[1]!, g);
    const variance = centered ? s[0] - s[1] ** 2 : s[0];
    s[2] = momentum * s[2]! + g / (Math.sqrt(variance) + epsilon);
    return p - lr * s[2];
  };
const adagrad: Textbook = (p, gradient, s, { t, lr, decay }) => {
  const g = gradient + decay * p;
  s[0] = s[0]! + g * g;
  return p - ((lr / (1 + (t - 1) * 0.1)) * g) / (Math.sqrt(s[0]) + 1e-6);
};

/** A run of one parameter by an elementwise rule. */
function follow(rule: Textbook, count: number, index: number): number[] {
  const decay = index === 0 ? DECAY : 0; // the second is a norm's weight
  return Array.from(scatter(count, index), (start, i) => {
    const states = [0, 0, 0];
    let p = start;
    for (let t = 1; t <= STEPS; t++) {
      const g = scatter(count, gradientSeed(t, index))[i]! * SCALE;
      p = rule(p, g, states, { t, lr: LR / t, decay });
    }
    return p;
  });
}

/** A run by Adafactor; a vector is a matrix whose elements have mean squares of their own. */
function adafactor(rows: number, columns: number, factored: boolean, index: number): number[] {
  const decay = index === 0 ? DECAY : 0;
  const count = rows * columns;
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const p = Array.from(scatter(count, index));
  const [R, C] = [new Array(rows).fill(0), new Array(columns).fill(0)];
  const V = new Array(count).fill(0);
  for (let t = 1; t <= STEPS; t++) {
    const [d, lr] = [1 - t ** -0.8, LR / t];
    const g = Array.from(scatter(count, gradientSeed(t, index)), (value) => value * SCALE);
    const squares = g.map((value) => value ** 2 + 1e-30);
    for (let i = 0; i < rows; i++) R[i] = ema(d, R[i], mean(squares.slice(i * columns, (i + 1) * columns)));
    for (let j = 0; j < columns; j++) C[j] = ema(d, C[j], mean(squares.filter((_, k) => k % columns === j)));
    for (let k = 0; k < count; k++) V[k] = ema(d, V[k], squares[k]!);
    const variance = (k: number) => (factored ? (R[Math.floor(k / columns)] * C[k % columns]) / mean(R) : V[k]);
    const u = g.map((value, k) => value / Math.sqrt(variance(k)));
    const rms = Math.sqrt(mean(u.map((value) => value ** 2)));
    for (let k = 0; k < count; k++) p[k] = p[k]! - lr * decay * p[k]! - (lr * u[k]!) / Math.max(1, rms);
  }
  return p;
}

const elementwise = (rule: Textbook) => [follow(rule, ROWS * COLUMNS, 0), follow(rule, 17, 1)];

describe.each<[optim: string, optim_args: string, textbook: () => number[][]]>([
  ["adamw_torch", "", () => elementwise(adamW)],
  ["adamw_8bit", "", () => elementwise(adamW)], // tensors this small keep float32 states
  ["lion_32bit", "", () => elementwise(lion)],
  ["ademamix", "alpha=3,beta3=0.99,t_alpha=8,t_beta3=12", () => elementwise(adEMAMix)],
  ["sgd", "", () => elementwise(sgd(0, 0, false))],
  ["sgd", "momentum=0.9,dampening=0.25", () => elementwise(sgd(0.9, 0.25, false))],
  ["sgd", "momentum=0.9,nesterov=true", () => elementwise(sgd(0.9, 0, true))],
  ["rmsprop", "", () => elementwise(rmsprop(0.99, 1e-8, 0, false))],
  ["rmsprop", "alpha=0.9,eps=1e-3,momentum=0.5", () => elementwise(rmsprop(0.9, 1e-3, 0.5, false))],
  ["rmsprop", "alpha=0.9,eps=1e-3,centered=true", () => elementwise(rmsprop(0.9, 1e-3, 0, true))],
  ["rmsprop", "alpha=0.9,eps=1e-3,momentum=0.5,centered=1", () => elementwise(rmsprop(0.9, 1e-3, 0.5, true))],
  ["adagrad", "lr_decay=0.1,eps=1e-6", () => elementwise(adagrad)],
  ["adafactor", "", () => [adafactor(ROWS, COLUMNS, true, 0), adafactor(17, 1, false, 1)]],
])("%s %s", (optim, optim_args, textbook) => {
  it("is the textbook's update", async () => {
    const parameters = makeParameters(shapes);
    const optimizer = makeOptimizer(parameters, { optim, optim_args, weightDecay: DECAY });
    updates(optimizer, parameters, { to: STEPS, lr: LR, gradientScale: SCALE });
    for (const [index, expected] of textbook().entries()) {
      const { tensor } = parameters[index]!;
      for (const [i, value] of (await tensor.values()).entries()) {
        expect(Math.abs(Number(value) - expected[i]!), `element ${i} of parameter ${index}`).toBeLessThan(2e-6);
      }
      tensor.dispose();
    }
    optimizer.dispose();
  });
});
