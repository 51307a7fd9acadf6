/** What the fused ops are compared with, of PyTorch's ops. */
import { type fused, ops, type Tensor } from "../../src/torch/index.js";

const difference = (x: Tensor, y: Tensor) => ops.add(x, ops.neg(y));

/** The norm of the last dimension, in x's dtype. */
export function composedNorm(x: Tensor, { kind, weight, bias, eps, offset }: fused.Norm): Tensor {
  const about = kind === "layer" ? difference(x, ops.mean(x, -1, true)) : x;
  const inverse = ops.rsqrt(ops.addScalar(ops.mean(ops.square(about), -1, true), eps));
  const y = ops.mul(ops.addScalar(weight, offset), ops.mul(about, inverse));
  return bias ? ops.add(y, bias) : y;
}

export const ACTIVATIONS: Record<fused.Activation, (x: Tensor) => Tensor> = {
  silu: ops.silu,
  gelu: (x) => ops.gelu(x),
  gelu_tanh: (x) => ops.gelu(x, "tanh"),
  relu2: (x) => ops.square(ops.relu(x)),
  relu: ops.relu,
};

/** The first R elements of each head turned by angles [N, R/2], as pairs of halves or of neighbours, as matrices would. */
export function composedRope(
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  { interleaved, norm }: fused.RopeOptions = {},
): Tensor {
  const normed = norm ? composedNorm(x, norm) : x;
  const [tokens, heads, dim] = x.shape as [number, number, number];
  const half = cos.shape[1]!;
  const [turned, rest] = ops.splitSizes(normed, [2 * half, dim - 2 * half], 2);
  const pairs = ops.reshape(turned!, [tokens, heads, ...(interleaved ? [half, 2] : [2, half])]);
  const a = ops.select(pairs, interleaved ? 3 : 2, 0); // [N, heads, R/2]
  const b = ops.select(pairs, interleaved ? 3 : 2, 1);
  const [c, s] = [ops.unsqueeze(cos, 1), ops.unsqueeze(sin, 1)];
  const parts = [difference(ops.mul(a, c), ops.mul(b, s)), ops.add(ops.mul(b, c), ops.mul(a, s))];
  const joined = interleaved
    ? ops.cat(
        parts.map((part) => ops.unsqueeze(part, 3)),
        3,
      )
    : ops.cat(parts, 2);
  return ops.cat([ops.reshape(joined, [tokens, heads, 2 * half]), rest!], 2);
}
