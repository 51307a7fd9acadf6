/** Ops whose typed face says more than a name: what stands in which place. */
import { afterEach, expect, it } from "vitest";
import { gradcheck } from "../../tests/support/gradcheck.js";
import { flush, liveTensors, ops, scope, type Tensor } from "./index.js";

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

async function read<Names extends string>(make: () => Record<Names, Tensor>): Promise<Record<Names, number[]>> {
  const tensors = scope(() => Object.values(make()) as Tensor[]);
  const names = scope(() => Object.keys(make()));
  const values = await Promise.all(tensors.map(async (tensor) => Array.from(await tensor.values(), Number)));
  for (const tensor of tensors) tensor.dispose();
  return Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Record<Names, number[]>;
}

const tall = () => ops.float32([2, 1, -1, 3, 0.5, 4], [3, 2]);

it("splits into parts of given sizes, whose gradients are joined", async () => {
  const parts = await read(() => {
    const [a, b, c] = ops.splitSizes(ops.float32([1, 2, 3, 4, 5, 6, 7, 8], [2, 4]), [1, 0, 3], 1);
    return { a: a!, b: b!, c: c! };
  });
  expect(parts).toEqual({ a: [1, 5], b: [], c: [2, 3, 4, 6, 7, 8] });
  await gradcheck([[2, 5]], ([x]) => {
    const [a, b] = ops.splitSizes(x!, [2, 3], 1);
    return ops.cat([ops.square(b!), ops.mulScalar(a!, 3)], 1);
  });
});

it("divides, takes roots and activates", async () => {
  const x = () => ops.float32([4, -1]);
  expect(await read(() => ({ div: ops.div(x(), ops.float32([8, 2])), root: ops.sqrt(ops.square(x())) }))).toEqual({
    div: [0.5, -0.5],
    root: [4, 1],
  });
  const { relu, tanh, erf, near } = await read(() => ({
    relu: ops.relu(x()),
    tanh: ops.tanh(x()),
    erf: ops.gelu(x()),
    near: ops.gelu(x(), "tanh"),
  }));
  expect(relu).toEqual([4, 0]);
  expect(tanh[1]).toBeCloseTo(Math.tanh(-1), 6);
  expect(erf[1]).toBeCloseTo(-0.158655, 6);
  expect(near[1]).toBeCloseTo(-0.158808, 6);
});

it("factors a matrix into an orthonormal and a triangular one", async () => {
  const { product, unit, below } = await read(() => {
    const [q, r] = ops.qr(tall());
    const below = ops.narrow(ops.narrow(r, 0, 1, 1), 1, 0, 1);
    return { product: ops.matmul(q, r), unit: ops.matmul(ops.transpose(q, 0, 1), q), below };
  });
  for (const [i, value] of [2, 1, -1, 3, 0.5, 4].entries()) expect(product[i]).toBeCloseTo(value, 5);
  for (const [i, value] of [1, 0, 0, 1].entries()) expect(unit[i]).toBeCloseTo(value, 5);
  expect(below).toEqual([0]);
});

it("factors a matrix by its singular values", async () => {
  const { product, s, u } = await read(() => {
    const [u, s, vh] = ops.svd(tall());
    return { product: ops.matmul(ops.mul(u, s), vh), s, u };
  });
  for (const [i, value] of [2, 1, -1, 3, 0.5, 4].entries()) expect(product[i]).toBeCloseTo(value, 5);
  expect(s[0]).toBeGreaterThan(s[1]!);
  expect(u).toHaveLength(6);
  const full = scope(() => ops.svd(tall(), true)[0]);
  expect(full.shape).toEqual([3, 3]);
  full.dispose();
});
