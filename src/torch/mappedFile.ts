/** Files as tensors without a copy. */
import { type DType, loadNative } from "./native.js";
import { Tensor } from "./tensor.js";

/** A file in memory by mapping: its pages are read when touched, and writes to its tensors never reach the file. */
export class MappedFile {
  readonly #file: number;

  /** @throws when the file cannot be opened or mapped */
  constructor(path: string) {
    this.#file = loadNative().mapFile(path);
  }

  /** The tensor whose bytes begin at `begin`. */
  tensor(begin: number, dtype: DType, shape: number[]): Tensor {
    return new Tensor(loadNative().fileTensor(this.#file, begin, dtype, shape));
  }

  /** The mapping itself ends with its last tensor. */
  close(): void {
    loadNative().unmapFile(this.#file);
  }
}
