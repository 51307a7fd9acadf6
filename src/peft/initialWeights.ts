/** The first weights of an adapter, with the draws that PEFT makes, in its order. */
import type { LoraWeights } from "../models/linear.js";
import { UserError } from "../support/errors.js";
import { ops, type Tensor } from "../torch/index.js";
import { type LoraConfig, lessensBase } from "./config.js";
import type { LoraShape } from "./shapes.js";

export type FirstWeights = Pick<LoraWeights, "a" | "b" | "bias" | "initial">;

/**
 * Draws from the default generator, on the CPU for every device, as PEFT: the same numbers. First come the two layers'
 * constructors, which PyTorch fills; with `init_lora_weights: false` that is all.
 * @param weight the base's in float32, [out, in], for the kinds that begin from it
 */
export function firstWeights(
  config: LoraConfig,
  { r, scaling }: LoraShape,
  [outputs, inputs]: [number, number],
  weight: () => Tensor,
): FirstWeights {
  const uniform = (shape: number[], fanIn: number) => {
    const x = ops.empty(shape);
    const bound = 1 / Math.sqrt(fanIn); // Kaiming uniform with a = √5
    ops.uniform_(x, -bound, bound);
    return x;
  };
  const normal = (shape: number[], deviation = 1) => {
    const x = ops.empty(shape);
    ops.normal_(x, 0, deviation);
    return x;
  };
  const a = uniform([r, inputs], inputs);
  const b = uniform([outputs, r], r);
  const bias = config.lora_bias ? uniform([outputs], r) : undefined;
  const { init_lora_weights: init } = config;
  if (init === false) return { a, b, bias };
  const both = (first: { a: Tensor; b: Tensor }) => ({
    a: rowMajor(first.a, [r, inputs]),
    b: rowMajor(first.b, [outputs, r]),
  });
  if (init === "orthogonal") return both(orthogonal(r, inputs, outputs, normal));
  if (lessensBase(config)) {
    const first = init === "olora" ? byQr(weight(), r) : bySvd(weight(), r, scaling, init as string, normal);
    return { ...both(first), initial: both(first) };
  }
  return {
    a: init === "gaussian" ? normal([r, inputs], 1 / r) : uniform([r, inputs], inputs),
    b: ops.zeros([outputs, r]),
    bias: bias && ops.zeros([outputs]),
  };
}

/** Why a rank does not go with a way to draw the first weights; undefined: it does. */
export function rankProblem(config: LoraConfig, r: number, [outputs, inputs]: [number, number]): string | undefined {
  const { init_lora_weights: init } = config;
  if (init === "orthogonal" && r % 2 !== 0) return `orthogonal needs an even rank, not ${r}`;
  if (lessensBase(config) && r > Math.min(outputs, inputs)) {
    return `${init} finds no more than ${Math.min(outputs, inputs)} directions in a weight [${outputs}, ${inputs}], and the rank is ${r}`;
  }
  return undefined;
}

/** A copy whose rows lie one after the other. */
function rowMajor(x: Tensor, shape: number[]): Tensor {
  const copy = ops.empty(shape);
  ops.copy_(copy, x);
  return copy;
}

type Draw = (shape: number[]) => Tensor;

/** The odd and the even rows of an orthogonal matrix, turned at random: A and B begin in spaces that do not meet. */
function orthogonal(r: number, inputs: number, outputs: number, normal: Draw): { a: Tensor; b: Tensor } {
  const half = r / 2;
  const [q] = ops.qr(normal([r, r]));
  const pairs = ops.reshape(q, [half, 2, r]);
  const [first, second] = [0, 1].map((i) => ops.select(pairs, 1, i)); // [r/2, r]
  const down = ops.matmul(normal([inputs, half]), first!); // [in, r]
  const up = ops.matmul(ops.transpose(normal([half, outputs]), 0, 1), second!); // [out, r]
  return { a: ops.mulScalar(ops.transpose(down, 0, 1), 0.1), b: ops.mulScalar(up, 0.1) };
}

/** OLoRA: the first r columns of Q and rows of R. */
function byQr(weight: Tensor, r: number): { a: Tensor; b: Tensor } {
  const [q, rest] = ops.qr(weight);
  return { a: ops.narrow(rest, 0, 0, r), b: ops.narrow(q, 1, 0, r) };
}

/** PiSSA: the r largest singular values, their roots on both sides. */
function bySvd(weight: Tensor, r: number, scaling: number, init: string, normal: Draw): { a: Tensor; b: Tensor } {
  const rounds = /^pissa_niter_(\d+)$/.exec(init)?.[1];
  const [u, s, v] = rounds === undefined ? largest(weight, r) : approximate(weight, r, Number(rounds), normal);
  const root = ops.sqrt(ops.mulScalar(s, 1 / scaling)); // [r]
  return { a: ops.mul(ops.unsqueeze(root, 1), v), b: ops.mul(u, root) };
}

/** U, [out, r], S, [r], and Vᵀ, [r, in]. */
function largest(weight: Tensor, r: number): [Tensor, Tensor, Tensor] {
  const [u, s, v] = ops.svd(weight, false);
  return [ops.narrow(u, 1, 0, r), ops.narrow(s, 0, 0, r), ops.narrow(v, 0, 0, r)];
}

/** The same by rounds of subspace iteration (Halko et al. 2009, arXiv:0909.4061), as torch.svd_lowrank. */
function approximate(weight: Tensor, r: number, rounds: number, normal: Draw): [Tensor, Tensor, Tensor] {
  const [outputs, inputs] = weight.shape as [number, number];
  const turn = (x: Tensor) => ops.transpose(x, 0, 1);
  const wide = outputs < inputs;
  const tall = wide ? turn(weight) : weight;
  const basis = (x: Tensor) => ops.qr(x)[0];
  let q = basis(ops.matmul(tall, normal([Math.min(outputs, inputs), r])));
  for (let i = 0; i < rounds; i++) {
    q = basis(ops.matmul(turn(tall), q));
    q = basis(ops.matmul(tall, q));
  }
  const [small, s, v] = ops.svd(ops.matmul(turn(q), tall), false);
  const u = ops.matmul(q, small);
  return wide ? [turn(v), s, turn(u)] : [u, s, v];
}

/** @throws UserError where the rank does not fit */
export function checkRank(
  config: LoraConfig,
  path: string,
  { r }: LoraShape,
  size: [number, number],
  where: string,
): void {
  const problem = rankProblem(config, r, size);
  if (problem) throw new UserError(`${where}init_lora_weights: '${path}': ${problem}`);
}
