/** Ops by schema: overloads, defaults, lists; and every misuse as a JavaScript error that names op and shapes. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { op, opInPlace, opMany } from "../../src/torch/dispatch.js";
import {
  backward,
  flush,
  fused,
  gradOf,
  liveTensors,
  loadNative,
  ops,
  optimizerOps,
  scope,
  setRequiresGrad,
  type Tensor,
} from "../../src/torch/index.js";
import { openOps, opsInUse } from "./support.js";

const native = loadNative();
const add = () => native.findOp("aten::add.Tensor");
const values = async (x: Tensor) => Array.from(await x.values(), Number);

let made: Tensor[] = [];
const track = (x: Tensor) => {
  made.push(x);
  return x;
};
const vector = (...numbers: number[]) => track(ops.float32(numbers));

beforeEach(() => {
  made = [];
});
afterEach(async () => {
  for (const tensor of made) tensor.dispose();
  await flush();
  expect(liveTensors()).toBe(0);
});

describe("calls by schema", () => {
  it("tells overloads apart", async () => {
    const x = vector(1, 2);
    expect(await values(track(op("aten::add.Tensor", x, vector(10, 20))))).toEqual([11, 22]);
    expect(await values(track(op("aten::add.Scalar", x, 0.5)))).toEqual([1.5, 2.5]);
  });

  it("fills in the schema's defaults for what is left out or undefined", async () => {
    const [x, y] = [vector(1, 2), vector(10, 20)];
    expect(await values(track(op("aten::add.Tensor", x, y)))).toEqual([11, 22]); // alpha = 1
    expect(await values(track(op("aten::add.Tensor", x, y, undefined)))).toEqual([11, 22]);
    expect(await values(track(op("aten::add.Tensor", x, y, 2)))).toEqual([21, 42]);
  });

  it("takes null and undefined for an optional tensor, number, dtype and list", async () => {
    const x = track(ops.float32([1, 2, 3, 4], [2, 2]));
    const weight = track(ops.float32([1, 0, 0, 1], [2, 2]));
    for (const bias of [null, undefined]) {
      expect(await values(track(op("aten::linear", x, weight, bias)))).toEqual([1, 2, 3, 4]);
    }
    expect(await values(track(op("aten::linear", x, weight, vector(10, 20))))).toEqual([11, 22, 13, 24]);
    expect(await values(track(op("aten::sum.dim_IntList", x, null, false, null)))).toEqual([10]);
    expect(track(op("aten::sum.dim_IntList", x, [0], true, "float64")).info).toMatchObject({
      shape: [1, 2],
      dtype: "float64",
    });
  });

  it("takes lists of tensors, integers, and optional tensors", async () => {
    const [x, y] = [vector(1, 2), vector(3)];
    expect(await values(track(op("aten::cat", [x, y], 0)))).toEqual([1, 2, 3]);
    const square = track(ops.float32([1, 2, 3, 4], [2, 2]));
    expect(track(op("aten::reshape", square, [1, 4, 1])).shape).toEqual([1, 4, 1]);
    const rows = track(ops.int64([1, 0]));
    expect(await values(track(op("aten::index.Tensor", square, [null, rows])))).toEqual([2, 1, 4, 3]);
    expect(await values(track(op("aten::index.Tensor", square, [rows])))).toEqual([3, 4, 1, 2]);
  });

  it("gives back several tensors, and lists of them", async () => {
    const x = track(ops.float32([3, 1, 2]));
    const [sorted, order] = opMany("aten::sort", [x]).map(track);
    expect(await values(sorted!)).toEqual([1, 2, 3]);
    expect(await values(order!)).toEqual([1, 2, 0]);
    const parts = opMany("aten::split.Tensor", [x, 2], 2).map(track);
    expect(await values(parts[1]!)).toEqual([2]);
  });

  it("knows whole numbers from fractions, as Python does", () => {
    const counts = track(ops.int64([1, 2]));
    expect(track(op("aten::add.Scalar", counts, 2)).info.dtype).toBe("int64");
    expect(track(op("aten::add.Scalar", counts, 2.5)).info.dtype).toBe("float32");
  });

  it("computes gradients, accumulated over backward passes", async () => {
    const x = vector(1, 2, 3);
    setRequiresGrad(x, true);
    for (let pass = 0; pass < 2; pass++) scope(() => backward(ops.sum(ops.square(x))));
    expect(await values(track(gradOf(x)))).toEqual([4, 8, 12]);
    expect(x.info).toMatchObject({ requiresGrad: true, hasGrad: true });
  });

  it("takes bytes from every kind of view", async () => {
    const bytes = Float32Array.of(0, 1, 2, 3);
    const shared = new SharedArrayBuffer(8);
    new Float32Array(shared).set([5, 6]);
    const cases: [ArrayBuffer | ArrayBufferView, number[]][] = [
      [bytes.buffer, [0, 1, 2, 3]],
      [bytes.subarray(1, 3), [1, 2]],
      [new DataView(bytes.buffer, 4, 8), [1, 2]],
      [new Float32Array(shared), [5, 6]],
    ];
    for (const [source, expected] of cases) {
      const x = track(ops.fromBytes(source, "float32", [expected.length]));
      expect(await values(x)).toEqual(expected);
    }
  });

  it("keeps nothing of the caller's buffer", async () => {
    const bytes = Float32Array.of(1, 2);
    const x = track(ops.fromBytes(bytes, "float32", [2]));
    bytes.fill(9);
    expect(await values(x)).toEqual([1, 2]);
  });
});

describe("misuse is an error of JavaScript", () => {
  it("names the op and the shapes of its inputs at the next await", async () => {
    const product = track(ops.matmul(track(ops.zeros([2, 3])), track(ops.zeros([4, 5]))));
    await expect(product.values()).rejects.toThrow(/^aten::matmul: .*float32\[2,3\], float32\[4,5\]/s);
    const sum = track(ops.add(vector(1, 2), vector(1, 2, 3)));
    await expect(sum.values()).rejects.toThrow(/^aten::add\.Tensor: .*\(2\).*\(3\).*float32\[2\], float32\[3\]/s);
  });

  it("refuses a freed tensor", () => {
    const x = ops.zeros([1]);
    x.dispose();
    expect(() => ops.neg(x)).toThrow("aten::neg: argument 'self': the tensor was freed");
    expect(() => native.free(x.handle)).toThrow("free: the tensor was freed");
    expect(() => x.info).toThrow("describe: the tensor was freed");
    expect(() => native.backward(x.handle, null)).toThrow("backward: the tensor was freed");
  });

  it("refuses a freed tensor whose slot is in use again", () => {
    const first = ops.zeros([1]);
    first.dispose();
    const second = track(ops.zeros([1]));
    expect(second.handle % 2 ** 24).toBe(first.handle % 2 ** 24);
    expect(() => native.describe(first.handle)).toThrow("the tensor was freed");
  });

  it.each([Number.NaN, -1, 0, 0.5, 2 ** 52 + 1, Infinity, 2 ** 24 + 2 ** 20])("refuses the handle %d", (handle) => {
    expect(() => native.describe(handle)).toThrow(/describe: (bad tensor handle|the tensor was freed)/);
  });

  it("refuses a wrong type, with the argument's name and what came", () => {
    const x = vector(1);
    expect(() => op("aten::add.Tensor", x, "y")).toThrow(
      "aten::add.Tensor: argument 'other': expected a tensor, got a string",
    );
    expect(() => op("aten::add.Tensor", x)).toThrow(
      "aten::add.Tensor: argument 'other': expected a tensor, got undefined",
    );
    expect(() => op("aten::narrow", x, 0.5, 0, 1)).toThrow("argument 'dim': expected an integer, got the number 0.5");
    expect(() => op("aten::cat", x, 0)).toThrow("argument 'tensors': expected an array, got the number");
    expect(() => op("aten::reshape", x, ["1"])).toThrow("argument 'shape': expected a number, got a string");
    expect(() => op("aten::zeros", [1], "float8")).toThrow("aten::zeros: argument 'dtype': unknown dtype 'float8'");
    expect(() => op("aten::requires_grad_", x, 1)).toThrow(
      "argument 'requires_grad': expected a boolean, got the number 1",
    );
    expect(() => op("aten::randperm.generator", 3, 999)).toThrow("argument 'generator': no such generator");
    expect(() => ops.fromBytes({} as ArrayBuffer, "float32", [1])).toThrow(
      "fromBytes: expected a typed array or an ArrayBuffer",
    );
  });

  it("refuses too many arguments, and shows the schema", () => {
    const x = vector(1);
    expect(() => op("aten::neg", x, 1)).toThrow(
      "aten::neg: takes 1 arguments, got 2; its schema is aten::neg(Tensor self) -> Tensor",
    );
  });

  it("refuses unknown ops, private ones, and all that trust their caller", () => {
    const privateOps = ["aten::_cat", "aten::set_.source_Storage", "aten::from_file", "prim::Print", "add", ""];
    const trusting = ["aten::fbgemm_linear_fp16_weight", "aten::embedding_dense_backward", "aten::linspace.out"];
    for (const name of [...privateOps, ...trusting, "aten::no_such_op", "aten::add.NoOverload"]) {
      expect(() => native.findOp(name), name).toThrow("is not open to JavaScript");
    }
    expect(() => native.call(1e6, [], false)).toThrow("bad op id");
    expect(() => native.call(add(), {} as unknown[], false)).toThrow(
      "aten::add.Tensor: expected an array of arguments",
    );
  });

  it("lets every op through that slimtune calls", () => {
    const open = openOps();
    expect(open).toEqual([...open].sort()); // the native module searches it by halves
    for (const name of open) expect(native.findOp(name), name).toBeTypeOf("number");
    expect(opsInUse().filter((name) => !open.includes(name))).toEqual([]);
  });

  it("refuses a wrong number of results", async () => {
    const wrong = opMany("aten::split.Tensor", [vector(1, 2, 3), 2], 3).map(track);
    await expect(wrong[0]!.values()).rejects.toThrow("aten::split.Tensor: returned 2 tensors, 3 were expected");
  });

  it("refuses shapes that no memory holds", async () => {
    for (const shape of [[2 ** 50], [2 ** 40, 2 ** 40], [2 ** 32, 2 ** 31, 2], Array(60).fill(2)]) {
      const bomb = track(ops.zeros(shape));
      await expect(bomb.values(), String(shape)).rejects.toThrow(/^aten::zeros: /);
      expect(() => ops.fromBytes(new Uint8Array(4), "float32", shape), String(shape)).toThrow();
    }
    expect(() => ops.fromBytes(new Uint8Array(4), "float32", [-1])).toThrow("sizes of zero or more");
    expect(() => ops.fromBytes(new Uint8Array(4), "float32", [2])).toThrow("the shape needs 8 bytes, got 4");
    const sparse: number[] = [];
    sparse.length = 2 ** 32 - 1;
    expect(() => native.call(native.findOp("aten::zeros"), [sparse], false)).toThrow(
      "aten::zeros: argument 'size': an array of 4294967295 elements",
    );
  });

  it("refuses to read what has no bytes", async () => {
    const nowhere = track(op("aten::zeros", [2], "float32", null, "meta"));
    await expect(nowhere.values()).rejects.toThrow("toBytes");
  });

  it("refuses gradients that do not fit", async () => {
    const x = vector(1, 2);
    native.setGrad(x.handle, vector(1, 2, 3).handle);
    await expect(flush()).rejects.toThrow("setGrad: the gradient's shape, dtype or device differs");
    backward(x);
    await expect(flush()).rejects.toThrow(/^backward: .*does not require grad/s);
    const missing = track(gradOf(x));
    await expect(missing.values()).rejects.toThrow("grad: the tensor has no gradient");
    setRequiresGrad(x, true);
    backward(track(ops.square(x)));
    await expect(flush()).rejects.toThrow(/^backward: grad can be implicitly created only for scalar/);
  });

  it("checks an update's tensors against each other, and changes nothing where they do not fit", async () => {
    const [p, g, m, v] = [vector(1, 2), vector(1, 2), vector(0, 0), vector(0, 0)];
    let flag = vector(0);
    const update = (parameters: Tensor[], gradients: Tensor[], states: Tensor[]) =>
      opInPlace("slimtune::torch_adamw_step_", parameters, gradients, states, flag, 1, 0.1, 0, 1, 0.9, 0.99, 1e-8);
    update([p], [vector(1)], [m, v]);
    await expect(flush()).rejects.toThrow("parameter 0 and its gradient must be contiguous float32 of one size");
    update([p], [g], [m, track(ops.to(v, "float64"))]);
    await expect(flush()).rejects.toThrow("state 1 must be contiguous, of its parameter's size and device and float32");
    update([p], [g], [v]);
    await expect(flush()).rejects.toThrow("expected a gradient and 2 states for each of 1 parameters, got 1 and 1");
    const turned = track(ops.transpose(track(ops.zeros([2, 3])), 0, 1));
    update([turned], [turned], [turned, turned]);
    await expect(flush()).rejects.toThrow("must be contiguous float32");
    flag = vector(0, 0);
    update([p], [g], [m, v]);
    await expect(flush()).rejects.toThrow("nonfinite must be one float32 on the parameters' device");
    expect(await values(p)).toEqual([1, 2]);
  });

  it("checks Adafactor's workspace", async () => {
    const [p, g, s] = [vector(1, 2), vector(1, 2), vector(0, 0)];
    const workspace = track(optimizerOps.adafactorWorkspace([p]));
    const nonfinite = vector(0);
    const options = { lr: 0.1, weightDecay: 0, gradientScale: 1, nonfinite, decay: 0, eps: 1e-30, clipThreshold: 1 };
    const tensors = { parameters: [p], gradients: [g], states: [s], workspace };
    optimizerOps.adafactorStep_({ ...tensors, workspace: vector(0) }, options);
    await expect(flush()).rejects.toThrow("the workspace must be contiguous float32 of 2 elements or more");
    expect(await values(p)).toEqual([1, 2]);
    optimizerOps.adafactorStep_(tensors, options);
    expect((await values(p))[0]).toBeCloseTo(0.9, 6);
  });

  it("multiplies by a weight without columns", async () => {
    const weight = track(ops.zeros([3, 0], "bfloat16"));
    const none = { biases: [undefined], a: [undefined], b: [undefined], scalings: [0], masks: [undefined] };
    const [y] = fused.linears(track(ops.zeros([2, 0])), { weights: [weight], ...none });
    expect(await values(track(y!))).toEqual(Array(6).fill(0));
  });
});

describe("a failure sticks until it is told", () => {
  it("skips every op after it, in-place updates too, until one await reports it", async () => {
    const [x, y] = [vector(1, 2), vector(1)];
    const wrong = track(ops.matmul(track(ops.zeros([2, 3])), track(ops.zeros([4, 5]))));
    const after = track(ops.add(x, y));
    opInPlace("aten::add_.Scalar", x, 100);
    await expect(after.values()).rejects.toThrow("aten::matmul");
    expect(await values(x)).toEqual([1, 2]); // told: works again, and the update never happened
    opInPlace("aten::add_.Scalar", x, 1);
    expect(await values(x)).toEqual([2, 3]);
    await expect(wrong.values()).rejects.toThrow("aten::matmul"); // its result has no value ever
    await expect(after.values()).rejects.toThrow("aten::matmul"); // and neither has what was skipped
    expect(await values(track(ops.add(x, y)))).toEqual([3, 4]);
  });

  it("reaches what is computed from its result, later", async () => {
    const wrong = track(ops.matmul(vector(1), vector(1, 2)));
    await expect(flush()).rejects.toThrow("aten::matmul");
    await expect(flush()).resolves.toBeUndefined();
    const late = track(ops.neg(wrong));
    await expect(late.values()).rejects.toThrow("aten::matmul");
    expect(() => wrong.shape).toThrow("aten::matmul");
  });

  it("does not hold back frees", async () => {
    const before = liveTensors();
    const x = ops.zeros([4]);
    const wrong = ops.matmul(x, track(ops.zeros([3])));
    x.dispose();
    wrong.dispose();
    await expect(flush()).rejects.toThrow("aten::matmul");
    expect(liveTensors()).toBe(before + 1);
  });
});
