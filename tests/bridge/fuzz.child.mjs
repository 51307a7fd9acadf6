/**
 * Throws random calls at the native module until it is done or dead; the parent looks at the exit code.
 *   node fuzz.child.mjs <addon> <seed> <calls> <log> <op> ...
 * Every call is written to the log before it is made, so that a crash shows what made it.
 */
import { openSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import fc from "fast-check";

const [addon, seed, calls, logPath, ...opNames] = process.argv.slice(2);
const native = createRequire(import.meta.url)(addon);
const log = openSync(logPath, "w");

const BATCH = 3; // calls between two reads: a read reports a failure, and until then every later call is skipped
const file = join(tmpdir(), `slimtune-fuzz-${process.pid}`);
writeFileSync(file, Buffer.alloc(256, 1));

/** What the schema says of each argument, read from the error of a call with too many. */
function argumentTypes(op) {
  try {
    native.call(op, new Array(200).fill(null), false);
  } catch (error) {
    const list = /; its schema is [^(]*\((.*)\) -> /.exec(error.message)?.[1] ?? "";
    return list
      .split(", ")
      .filter((part) => part && part !== "*")
      .map((part) => part.replace(/\([^)]*\)/g, "").split(" ")[0]);
  }
  return [];
}
const ops = opNames.map((name) => {
  const id = native.findOp(name);
  return { name, id, types: argumentTypes(id) };
});

// --- the tensors at hand ---

const dtypes = [
  "float32",
  "float32",
  "float32",
  "int64",
  "bfloat16",
  "float16",
  "float64",
  "bool",
  "uint8",
  "int32",
  "int16",
  "int8",
];
const shapes = [
  [],
  [1],
  [2],
  [3],
  [2, 3],
  [3, 2],
  [2, 2],
  [4, 4],
  [1, 2, 3, 4],
  [0],
  [2, 0],
  [2, 2, 2],
  [1, 1, 1, 1, 1],
];
const itemBytes = {
  float32: 4,
  int64: 8,
  bfloat16: 2,
  float16: 2,
  float64: 8,
  bool: 1,
  uint8: 1,
  int32: 4,
  int16: 2,
  int8: 1,
};
let live = [];
let freed = [];
let generators = [native.createGenerator(1)];
let files = [native.mapFile(file)];
let pageStores = [];

function addTensor(dtype, shape) {
  const bytes = new Uint8Array(shape.reduce((a, b) => a * b, 1) * itemBytes[dtype]).fill(1);
  live.push(native.fromBytes(bytes, dtype, shape, "cpu"));
}
function keepFew() {
  while (live.length > 60) {
    const [handle] = live.splice(Math.floor(live.length / 2), 1);
    native.free(handle);
    freed.push(handle);
  }
  freed = freed.slice(-20);
  while (live.length < 12) addTensor(dtypes[live.length % dtypes.length], shapes[live.length % shapes.length]);
}

// --- arguments ---

const index = fc.nat({ max: 1000 });
/** Values are made when the call is made: they may depend on the handles alive then. */
const lazy = (arbitrary, make) => arbitrary.map((value) => () => make(value));
const tensor = lazy(index, (i) => live[i % live.length]);
const dead = lazy(index, (i) => freed[i % Math.max(1, freed.length)] ?? -1);
const plain = (arbitrary) => arbitrary.map((value) => () => value);
// Nothing between a megabyte and an exabyte: a size that a machine can just about allocate proves nothing.
const integer = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -3, max: 5 }) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 50, -(2 ** 50), 2 ** 53 - 1, -(2 ** 53) + 1, 2 ** 61, 1e308) },
);
const number = fc.oneof(
  integer,
  fc.double({ min: -10, max: 10 }),
  fc.constantFrom(Number.NaN, Infinity, -Infinity, -0),
);
const dtype = fc.constantFrom(...dtypes, "float8", "", "complex64");
const shape = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...shapes) },
  { weight: 1, arbitrary: fc.array(integer, { maxLength: 5 }) },
);

function poison(kind) {
  switch (kind) {
    case 0:
      return new Proxy([], {
        get: () => {
          throw new Error("trap");
        },
      });
    case 1:
      return Object.defineProperty([1], 0, {
        get: () => {
          throw new Error("getter");
        },
      });
    case 2: {
      const sparse = [1];
      sparse.length = 2 ** 32 - 1;
      return sparse;
    }
    case 3:
      return { valueOf: () => live[0], length: 2 };
    case 4:
      // biome-ignore lint/suspicious/noSparseArray: that is the point
      return [, 1, ,];
    case 5:
      return [live[0], [live[1]]];
    case 6: // frees a tensor while the arguments are being read
      return Object.defineProperty([live[0], 1], 1, {
        get: () => {
          const handle = live.pop();
          if (handle !== undefined) native.free(handle);
          return live[0];
        },
      });
    default:
      return new Proxy(class {}, {});
  }
}
const garbage = fc.oneof(
  plain(fc.constantFrom(null, undefined, "", "x", "float32", true, 10n, Symbol("s"), () => {}, {}, [], [[]], [null])),
  plain(number),
  plain(fc.anything()),
  plain(fc.string({ maxLength: 30, unit: "binary" })),
  lazy(fc.nat({ max: 7 }), poison),
  dead,
  lazy(index, (i) => (live[i % live.length] ?? 0) + 0.5),
);
const list = (element) => fc.array(element, { maxLength: 5 }).map((makers) => () => makers.map((make) => make()));

/** A value of a schema's type. */
function valid(type) {
  if (type.endsWith("?"))
    return fc.oneof(
      { weight: 2, arbitrary: valid(type.slice(0, -1)) },
      { weight: 1, arbitrary: plain(fc.constant(null)) },
    );
  const listed = /^(.*)\[\d*\]$/.exec(type);
  if (listed)
    return listed[1] === "int" || listed[1] === "SymInt"
      ? fc.oneof(plain(shape), list(plain(integer)))
      : list(valid(listed[1]));
  switch (type) {
    case "Tensor":
      return tensor;
    case "int":
    case "SymInt":
      return plain(integer);
    case "float":
    case "Scalar":
      return plain(number);
    case "bool":
      return plain(fc.boolean());
    case "ScalarType":
      return plain(dtype);
    case "Generator":
      return lazy(index, (i) => generators[i % generators.length]);
    case "Device":
      return plain(fc.constantFrom("cpu", "meta", "cuda", "cuda:0", "nonsense"));
    case "str":
      return plain(fc.constantFrom("", "none", "mean", "tanh", "rms", "layer", "silu", "gelu", "relu2", "nf4"));
    default:
      return plain(fc.constant(undefined));
  }
}
/** A handle taken for a size would ask for gigabytes. */
const tame = (make) => () => {
  const value = make();
  return typeof value === "number" && value > 1e6 && value < 2 ** 44 ? -1 : value;
};
const argument = (type) =>
  fc.oneof(
    { weight: 12, arbitrary: valid(type) },
    { weight: 1, arbitrary: type.includes("Tensor") ? garbage : garbage.map(tame) },
    { weight: 1, arbitrary: plain(fc.constant(undefined)) },
  );

const opCall = fc.constantFrom(...ops).chain(({ name, id, types }) =>
  fc
    .record({
      args: fc.tuple(...types.map(argument)),
      extra: fc.oneof(
        { weight: 20, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: fc.array(garbage, { maxLength: 2 }) },
      ),
      grad: fc.boolean(),
      results: fc.oneof({ weight: 9, arbitrary: fc.nat({ max: 5 }) }, { weight: 1, arbitrary: number }),
    })
    .map(({ args, extra, grad, results }) => ({
      name,
      run: (made) => native.call(id, made, grad, results),
      args: [...args, ...extra],
    })),
);

/** Buffers in every state that JavaScript knows. */
const buffer = lazy(fc.nat({ max: 11 }), (kind) => {
  const bytes = new ArrayBuffer(24);
  switch (kind) {
    case 0:
      return bytes;
    case 1:
      return new Float32Array(bytes, 4, 2);
    case 2:
      return new DataView(bytes, 8, 8);
    case 3:
      structuredClone(bytes, { transfer: [bytes] });
      return bytes;
    case 4: {
      const view = new Float32Array(bytes);
      structuredClone(bytes, { transfer: [bytes] });
      return view;
    }
    case 5: {
      const view = new DataView(bytes);
      structuredClone(bytes, { transfer: [bytes] });
      return view;
    }
    case 6:
      return new SharedArrayBuffer(24);
    case 7:
      return new Uint8Array(new SharedArrayBuffer(24));
    case 8: {
      const resizable = new ArrayBuffer(24, { maxByteLength: 64 });
      const view = new Uint8Array(resizable, 8);
      resizable.resize(4);
      return view;
    }
    case 9: {
      const resizable = new ArrayBuffer(24, { maxByteLength: 64 });
      resizable.resize(0);
      return new Uint8Array(resizable);
    }
    case 10:
      return new Uint8Array(5056);
    default:
      return new BigInt64Array(0);
  }
});
/** A shape whose reading takes the buffer away. */
const thief = {
  name: "fromBytes while its buffer moves",
  args: [],
  run() {
    const bytes = new ArrayBuffer(1 << 16);
    const stolen = Object.defineProperty([0], 0, {
      get: () => {
        structuredClone(bytes, { transfer: [bytes] });
        return 1 << 14;
      },
    });
    return native.fromBytes(bytes, "float32", stolen, "cpu");
  },
};

const either = (good) => fc.oneof({ weight: 5, arbitrary: good }, { weight: 1, arbitrary: garbage });
const generator = lazy(index, (i) => (i % 3 === 0 ? null : generators[i % generators.length]));
const device = plain(fc.constantFrom("cpu", "cpu", "cpu", "meta", "cuda", "cuda:0", "nonsense"));
const mapped = lazy(index, (i) => files[i % files.length]);
const pageStore = lazy(index, (i) => pageStores[i % Math.max(1, pageStores.length)] ?? -1);
const rawFunctions = {
  fromBytes: [buffer, plain(dtype), plain(shape), device],
  toBytes: [tensor],
  describe: [tensor],
  free: [fc.oneof(tensor, dead)],
  backward: [tensor, fc.oneof(tensor, plain(fc.constant(null)))],
  grad: [tensor],
  setGrad: [tensor, fc.oneof(tensor, plain(fc.constant(null)))],
  createGenerator: [plain(number)],
  freeGenerator: [lazy(index, (i) => (generators.length > 3 ? generators[i % generators.length] : -1))],
  manualSeed: [plain(number), generator],
  getRngState: [fc.oneof(generator, device)],
  setRngState: [buffer, fc.oneof(generator, device)],
  saveRng: [fc.oneof(generator, device)],
  replayRng: [tensor, fc.oneof(generator, device)],
  mapFile: [plain(fc.constantFrom(file, tmpdir(), "/nonexistent", "/dev/null", `${file}\0x`, ""))],
  unmapFile: [lazy(index, (i) => (files.length > 3 ? files[i % files.length] : -1))],
  fileTensor: [mapped, plain(fc.oneof(fc.nat({ max: 300 }), integer)), plain(dtype), plain(shape)],
  findOp: [
    plain(
      fc.constantFrom("aten::add.Tensor", "aten::", "", "::", "aten::_cat", "prim::x", "aten::nothing", "slimtune::"),
    ),
  ],
  call: [plain(fc.nat({ max: 100 })), list(plain(number)), plain(fc.boolean()), plain(number)],
  deviceMemory: [plain(fc.constantFrom("cpu", "cuda", "cuda:0", "meta", "mps", "", "cuda:99999999999"))],
  createPageFile: [
    plain(fc.constantFrom(...Array.from({ length: 40 }, (_, i) => `${file}-page-${i}`))),
    plain(fc.constantFrom(0, 1, 4096, 9000, 2 ** 55, -1)),
  ],
  createDevicePages: [
    plain(fc.constantFrom("cpu", "cpu", "cpu", "meta", "cuda", "cuda:0", "nonsense")),
    plain(
      fc.constantFrom([0, 4096, 12288], [0, 4096], [0, 64, 128], [0], [], [4096, 0], [0, 2 ** 55], [0, -1], [0, 0]),
    ),
  ],
  closePages: [lazy(index, (i) => (pageStores.length > 3 ? pageStores[i % pageStores.length] : -1))],
  pageTensor: [pageStore, plain(fc.oneof(fc.constantFrom(0, 4, 2, 4096), integer)), plain(dtype), plain(shape)],
  pageIn: [pageStore, plain(fc.constantFrom(0, 4096, 64)), plain(fc.constantFrom(4096, 8192, 64))],
  pageOut: [pageStore, plain(fc.oneof(fc.constantFrom(0, 4096, 8192), integer)), plain(integer)],
  prefetch: [pageStore, plain(fc.oneof(fc.constantFrom(0, 4096, 8192), integer)), plain(integer)],
  pagingStats: [pageStore],
  loadLibrary: [plain(fc.constantFrom("", "/nonexistent.so"))],
  setDeterministic: [plain(fc.boolean())],
  setTf32: [plain(fc.boolean())],
  failAllocation: [plain(fc.constantFrom(0, 1, 2, 5, -1, 0.5))],
  liveTensors: [],
  engineInfo: [],
  startProfiler: [],
  stopProfiler: [],
  flush: [],
};
const forgotten = Object.keys(native).filter((name) => !(name in rawFunctions) && name !== "setEager");
if (forgotten.length > 0) throw new Error(`not fuzzed: ${forgotten}`);
const rawCall = fc.constantFrom(...Object.entries(rawFunctions)).chain(([name, good]) =>
  fc.record({ args: fc.tuple(...good.map(either)), drop: fc.nat({ max: 19 }) }).map(({ args, drop }) => ({
    name,
    args: drop === 0 ? args.slice(0, -1) : args,
    run: (made) => native[name](...made),
  })),
);
const anyCall = fc.oneof(
  { weight: 6, arbitrary: opCall },
  { weight: 3, arbitrary: rawCall },
  { weight: 1, arbitrary: fc.constant(thief) },
);

// --- the run ---

let threw = 0;
let ran = 0;
let rejected = 0;
const waiting = [];
/** Whatever is thrown must be an Error, or what a getter of ours threw. */
function checkError(error) {
  if (!(error instanceof Error) || error.message === "")
    throw new Error(`not an error with a message: ${inspect(error)}`);
}
keepFew();
for (const [number, call] of fc.sample(anyCall, { numRuns: Number(calls), seed: Number(seed) }).entries()) {
  let made = [];
  try {
    made = call.args.map((make) => make());
  } catch (error) {
    checkError(error);
  }
  writeSync(log, `${call.name} ${safeInspect(made)}\n`);
  try {
    const result = call.run(made);
    ran++;
    if (result instanceof Promise) waiting.push(result);
    else if (Array.isArray(result)) live.push(...result);
    else if (["fromBytes", "grad", "fileTensor", "pageTensor", "saveRng"].includes(call.name)) live.push(result);
    else if (call.name === "createGenerator") generators = [...generators, result].slice(-8);
    else if (call.name === "mapFile") files = [...files, result].slice(-8);
    else if (["createPageFile", "createDevicePages"].includes(call.name))
      pageStores = [...pageStores, result].slice(-8);
    else if (call.name === "free") live = live.filter((handle) => handle !== made[0]);
  } catch (error) {
    threw++;
    checkError(error);
  }
  keepFew();
  if (number % BATCH === BATCH - 1) {
    waiting.push(native.flush());
    for (const settled of await Promise.allSettled(waiting.splice(0))) {
      if (settled.status === "fulfilled") continue;
      rejected++;
      checkError(settled.reason);
    }
  }
}
function safeInspect(value) {
  try {
    return inspect(value, { depth: 2, maxArrayLength: 12, maxStringLength: 60, breakLength: Infinity });
  } catch {
    return "[cannot be shown]";
  }
}
await Promise.all([...waiting, native.flush()].map((promise) => promise.catch(checkError)));
for (const handle of live) {
  try {
    native.free(handle);
  } catch (error) {
    checkError(error);
  }
}
console.log(JSON.stringify({ ran, threw, rejected, live: native.liveTensors() }));
