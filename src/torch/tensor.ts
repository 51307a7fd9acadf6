/** Tensors, and the scopes that own them: memory never waits for the garbage collector. */
import { type DType, type Handle, loadNative, type TensorInfo } from "./native.js";

const openScopes: Set<Tensor>[] = [];

/**
 * A tensor on the engine. It belongs to the innermost open scope and is freed at its end, unless it is returned from
 * the scope or kept. Outside a scope it lives until `dispose()`.
 */
export class Tensor {
  readonly handle: Handle;
  #disposed = false;

  constructor(handle: Handle) {
    this.handle = handle;
    openScopes.at(-1)?.add(this);
  }

  /** Waits for the engine: shapes in hot paths come from configs, not from tensors. */
  get info(): TensorInfo {
    return loadNative().describe(this.handle);
  }

  get shape(): number[] {
    return this.info.shape;
  }

  /** Frees the tensor, in order with the ops that were enqueued before. Later uses throw. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    loadNative().free(this.handle);
    for (const scope of openScopes) scope.delete(this);
  }

  /** The values in row-major order; float16 and bfloat16 come as float32. */
  async values(): Promise<Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array> {
    return decode(await loadNative().toBytes(this.handle));
  }

  /** The raw bytes in row-major order. */
  async bytes(): Promise<Uint8Array> {
    return new Uint8Array((await loadNative().toBytes(this.handle)).data);
  }

  /** The one number of a tensor with one element. */
  async item(): Promise<number> {
    const values = await this.values();
    if (values.length !== 1) throw new Error(`item() of a tensor with ${values.length} elements`);
    return Number(values[0]);
  }
}

function decode({ dtype, data }: { dtype: DType; data: ArrayBuffer }) {
  switch (dtype) {
    case "float32":
      return new Float32Array(data);
    case "float64":
      return new Float64Array(data);
    case "int64":
      return new BigInt64Array(data);
    case "int32":
      return new Int32Array(data);
    case "uint8":
    case "bool":
      return new Uint8Array(data);
    case "bfloat16":
      return Float32Array.from(new Uint16Array(data), bfloat16ToNumber);
    case "float16":
      return Float32Array.from(new Uint16Array(data), float16ToNumber);
    default:
      throw new Error(`values() of dtype ${dtype}: read bytes() instead`);
  }
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

function bfloat16ToNumber(bits: number): number {
  word[0] = bits << 16;
  return wordAsFloat[0]!;
}

function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/**
 * Runs `body` and frees every tensor made inside, but for those that it returns (a tensor, or an array or plain object
 * of them), which pass to the scope around. `body` is synchronous: calls only enqueue, so a whole step fits.
 */
export function scope<T>(body: () => T): T {
  const scope = new Set<Tensor>();
  openScopes.push(scope);
  let result: T;
  try {
    result = body();
    if (result instanceof Promise) throw new Error("scope(): the body must be synchronous; await outside of it");
  } catch (error) {
    openScopes.pop();
    for (const tensor of scope) tensor.dispose();
    throw error;
  }
  openScopes.pop();
  const outer = openScopes.at(-1);
  for (const tensor of tensorsIn(result)) {
    if (scope.delete(tensor)) outer?.add(tensor);
  }
  for (const tensor of scope) tensor.dispose();
  return result;
}

/** Takes a tensor out of every open scope: it lives until `dispose()`. */
export function keep<T extends Tensor>(tensor: T): T {
  for (const scope of openScopes) scope.delete(tensor);
  return tensor;
}

function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) {
    yield value;
  } else if (Array.isArray(value)) {
    for (const element of value) yield* tensorsIn(element);
  } else if (value && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    for (const element of Object.values(value)) yield* tensorsIn(element);
  }
}

/** How many tensors are alive; flat across steps in a healthy program. */
export function liveTensors(): number {
  return loadNative().liveTensors();
}

/** Settles when everything enqueued so far has run; rejects with the first failure among it. */
export function flush(): Promise<void> {
  return loadNative().flush();
}

const itemBytes: Record<DType, number> = {
  float64: 8,
  int64: 8,
  float32: 4,
  int32: 4,
  float16: 2,
  bfloat16: 2,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Bytes of one element. */
export function dtypeBytes(dtype: DType): number {
  return itemBytes[dtype];
}
