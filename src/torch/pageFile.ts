/** Memory that can leave RAM: tensors over an unnamed file on disk. */
import { type DType, loadNative } from "./native.js";
import { Tensor } from "./tensor.js";

/** Ranges that are moved begin at multiples of this: a multiple of every platform's page. */
export const PAGE_ALIGNMENT = 65_536;

export class PageFile {
  readonly #file: number;

  /**
   * Takes `bytes` of disk at once; the file has no name any more when this returns.
   * @throws when the folder cannot be written or the disk has no room
   */
  constructor(path: string, bytes: number) {
    this.#file = loadNative().createPageFile(path, bytes);
  }

  /** A tensor whose bytes begin at `begin`, a multiple of its element's size; zeros at first. */
  tensor(begin: number, dtype: DType, shape: readonly number[]): Tensor {
    return new Tensor(loadNative().pageTensor(this.#file, begin, dtype, [...shape]));
  }

  /** Writes a range to disk and gives its RAM back, after the ops enqueued before. */
  pageOut(begin: number, bytes: number): void {
    loadNative().pageOut(this.#file, begin, bytes);
  }

  /** Has a range read ahead. */
  prefetch(begin: number, bytes: number): void {
    loadNative().prefetch(this.#file, begin, bytes);
  }

  /** Bytes written out and seconds spent on it so far. */
  stats(): Promise<{ moved: number; waited: number }> {
    return loadNative().pagingStats(this.#file);
  }

  /** The file itself ends with its last tensor. */
  close(): void {
    loadNative().closePageFile(this.#file);
  }
}
