/** The typed face of the native module: the one file that knows its functions and where it lies. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { cudaLibraries, hasNvidiaDriver, NVIDIA_DRIVER } from "../nativeModule/cuda.js";
import { nativePaths } from "../nativeModule/paths.js";
import { needAddressSpace } from "../support/addressSpace.js";
import { UserError } from "../support/errors.js";

export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "int64"
  | "int32"
  | "int16"
  | "int8"
  | "uint8"
  | "bool";

/** A generator of its own by its number, or the default one of a device by its name. */
export type GeneratorName = number | string;

/** A tensor's number in the native table; never reused after a free. */
export type Handle = number;

export interface EngineInfo {
  torch_version: string;
  threads: number;
  cpu_capability: string;
  mkl: boolean;
  mkldnn: boolean;
  devices: string[];
}

export interface TensorInfo {
  shape: number[];
  dtype: DType;
  device: string;
  requiresGrad: boolean;
  hasGrad: boolean;
}

export interface TensorBytes {
  dtype: DType;
  shape: number[];
  data: ArrayBuffer;
}

/**
 * Calls enqueue and return; promises settle when the engine thread gets there. A failed op rejects the next promise,
 * with the op's name and its inputs' shapes; every op between the two is skipped. Too little memory: `isOutOfMemory`.
 */
export interface Native {
  /** Looks an op up by schema name ("aten::add.Tensor"); throws for an unknown or closed one. */
  findOp(name: string): number;
  /** Handles of the new tensors; `listLength` tells how many an op returns that returns a list. */
  call(op: number, args: unknown[], grad: boolean, listLength?: number): Handle[];
  fromBytes(bytes: ArrayBufferView | ArrayBuffer, dtype: DType, shape: number[], device: string): Handle;
  toBytes(tensor: Handle): Promise<TensorBytes>;
  /** Waits for the engine. */
  describe(tensor: Handle): TensorInfo;
  free(tensor: Handle): void;
  liveTensors(): number;
  backward(tensor: Handle, gradient: Handle | null): void;
  grad(leaf: Handle): Handle;
  setGrad(leaf: Handle, gradient: Handle | null): void;
  createGenerator(seed: number): number;
  freeGenerator(generator: number): void;
  /** null: the default generators of all devices. */
  manualSeed(seed: number, generator: number | null): void;
  getRngState(generator: GeneratorName): Promise<Uint8Array>;
  setRngState(state: Uint8Array, generator: GeneratorName): void;
  saveRng(generator: GeneratorName): Handle;
  replayRng(state: Handle, generator: GeneratorName): void;
  mapFile(path: string): number;
  unmapFile(file: number): void;
  fileTensor(file: number, begin: number, dtype: DType, shape: number[]): Handle;
  createPageFile(path: string, bytes: number): number;
  /** Waits for the engine. */
  createDevicePages(device: string, borders: number[]): number;
  closePages(store: number): void;
  pageTensor(store: number, begin: number, dtype: DType, shape: number[]): Handle;
  pageIn(store: number, begin: number, bytes: number): void;
  pageOut(store: number, begin: number, bytes: number): void;
  prefetch(store: number, begin: number, bytes: number): void;
  pagingStats(store: number): Promise<{ moved: number; waited: number }>;
  /** Records every op from now on; nanoseconds of process.hrtime that the spans count from. */
  startProfiler(): number;
  /** Four numbers for each span: name's index, thread, begin and end in nanoseconds. Settles when the engine is done. */
  stopProfiler(): Promise<{ names: string[]; spans: Float64Array }>;
  /** Waits for the engine; makes GPUs ready. */
  engineInfo(): EngineInfo;
  loadLibrary(path: string): void;
  /** Waits for nothing. */
  deviceMemory(device: string): { allocated: number; peak: number };
  setEager(eager: boolean): void;
  setDeterministic(on: boolean): void;
  /** Waits for the engine. */
  setTf32(on: boolean): void;
  /** For tests: the n-th CPU tensor from now on finds no memory; 0: none does. Waits for the engine. */
  failAllocation(n: number): void;
  flush(): Promise<void>;
}

export const nativePath = nativePaths().addon;

/**
 * How often a thread looks for its next part of the work before it sleeps; read when LibTorch is loaded. OpenMP's own
 * count (300,000) holds a core for milliseconds, which other programs then lack; with far fewer a sleeping thread comes late.
 */
const SPINS = "10000";

/** What LibTorch takes when it is loaded, 430 MiB, and a little to work in: with less its globals' constructors abort. */
const ADDRESS_SPACE = 600 * 2 ** 20;

let loaded: Native | undefined;
let unusableGpu: Error | undefined;
const NO_DRIVER = "there is no NVIDIA driver";
let gpuAbsence = "LibTorch finds none (CUDA_VISIBLE_DEVICES may hide them)";

/** Why a GPU that there seems to be cannot be used; known when the module is loaded. */
export const whyNoGpu = (): Error | undefined => unusableGpu;

/** Why there is no GPU to be had at all, where there is none; known when the module is loaded. */
export const whyGpuAbsent = (): string => gpuAbsence;

/**
 * LibTorch looks for a GPU once in a process, as early as when it is seeded, and remembers what it found: the libraries for
 * one come with the module, also for a run on the CPU. Python's usual LibTorch is built for CUDA: on a machine without a
 * GPU there is no driver.
 */
function loadGpuLibraries(native: Native): void {
  const libraries = cudaLibraries(nativePaths());
  if (libraries.length === 0) {
    gpuAbsence = hasNvidiaDriver()
      ? "LibTorch here is built for the CPU (for this machine's GPU: npx slimtune setup --variant cu130)"
      : NO_DRIVER;
    return;
  }
  try {
    native.loadLibrary(NVIDIA_DRIVER);
  } catch {
    gpuAbsence = NO_DRIVER;
    return;
  }
  try {
    for (const library of libraries) native.loadLibrary(library);
  } catch (error) {
    unusableGpu = error as Error;
  }
}

/**
 * Loads the native module once. `SLIMTUNE_SYNC=1` makes every call run at once and throw where it is made.
 * @throws UserError when it was never built, does not load, or finds too little memory for itself
 */
export function loadNative(): Native {
  if (loaded) return loaded;
  if (!existsSync(nativePath)) {
    throw new UserError(`The native module is not built (${nativePath} is missing). Run: npx slimtune setup`);
  }
  needAddressSpace("LibTorch", ADDRESS_SPACE);
  if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= SPINS;
  try {
    loaded = createRequire(import.meta.url)(nativePath) as Native;
  } catch (error) {
    const advice =
      (error as NodeJS.ErrnoException).code === "ERR_DLOPEN_FAILED" && "Rebuild it with: npx slimtune setup --force";
    throw new UserError(`The native module does not load: ${(error as Error).message}${advice ? `\n${advice}` : ""}`);
  }
  loadGpuLibraries(loaded);
  if (process.env.SLIMTUNE_SYNC === "1") loaded.setEager(true);
  return loaded;
}
