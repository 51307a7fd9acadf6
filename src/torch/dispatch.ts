/** Calls of ATen ops by schema, on tensors rather than handles, with the gradient mode. */
import { loadNative } from "./native.js";
import { Tensor } from "./tensor.js";

const opIds = new Map<string, number>();
let gradEnabled = true;

function opId(name: string): number {
  let id = opIds.get(name);
  if (id === undefined) {
    id = loadNative().findOp(name);
    opIds.set(name, id);
  }
  return id;
}

function unwrap(arg: unknown): unknown {
  if (arg instanceof Tensor) return arg.handle;
  if (Array.isArray(arg) && arg.some((element) => element instanceof Tensor)) return arg.map(unwrap);
  return arg;
}

/** Calls an op whose result is one new tensor. Arguments stand in the schema's order; `undefined` takes the default. */
export function op(name: string, ...args: unknown[]): Tensor {
  return new Tensor(loadNative().call(opId(name), args.map(unwrap), gradEnabled)[0]!);
}

/** Calls an op that returns several tensors, or a list of `listLength` of them. */
export function opMany(name: string, args: unknown[], listLength?: number): Tensor[] {
  return loadNative()
    .call(opId(name), args.map(unwrap), gradEnabled, listLength)
    .map((handle) => new Tensor(handle));
}

/** Calls an in-place op; it returns nothing new. */
export function opInPlace(name: string, ...args: unknown[]): void {
  loadNative().call(opId(name), args.map(unwrap), gradEnabled, 0);
}

/** Runs `body`, whose ops record nothing for a backward pass. Like a scope's it is synchronous. */
export function noGrad<T>(body: () => T): T {
  const before = gradEnabled;
  gradEnabled = false;
  try {
    const result = body();
    if (result instanceof Promise) throw new Error("noGrad(): the body must be synchronous; await outside of it");
    return result;
  } finally {
    gradEnabled = before;
  }
}
