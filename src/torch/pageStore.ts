/** Memory that comes and goes in pages, ranges of bytes: on disk, or in the host's memory beside a device. */
import type { Device } from "./device.js";
import { type DType, loadNative } from "./native.js";
import { Tensor } from "./tensor.js";

/** Pages begin at multiples of this: a multiple of every platform's page. */
export const PAGE_ALIGNMENT = 65_536;

export class PageStore {
  readonly #store: number;

  private constructor(store: number) {
    this.#store = store;
  }

  /**
   * Pages over a file, in memory as long as the system likes. Takes `bytes` of disk at once; the file has no name any
   * more when this returns.
   * @throws when the folder cannot be written or the disk has no room
   */
  static onDisk(path: string, bytes: number): PageStore {
    return new PageStore(loadNative().createPageFile(path, bytes));
  }

  /**
   * Pages in pinned memory of the host that take turns in two buffers on a device, even ones in the first. A tensor has
   * its page's bytes from `pageIn` of that page until that of the next but one.
   * @param borders where pages begin, ascending from 0, and where the last one ends
   * @throws when one of the two has no room
   */
  static onHost(device: Device, borders: readonly number[]): PageStore {
    return new PageStore(loadNative().createDevicePages(device, [...borders]));
  }

  /** A tensor whose bytes begin at `begin`, a multiple of its element's size; zeros at first. */
  tensor(begin: number, dtype: DType, shape: readonly number[]): Tensor {
    return new Tensor(loadNative().pageTensor(this.#store, begin, dtype, [...shape]));
  }

  /** Comes before the ops that use the page's tensors. */
  pageIn(begin: number, bytes: number): void {
    loadNative().pageIn(this.#store, begin, bytes);
  }

  /** Writes a page out, after the ops enqueued before. */
  pageOut(begin: number, bytes: number): void {
    loadNative().pageOut(this.#store, begin, bytes);
  }

  /** Begins to bring a page in. */
  prefetch(begin: number, bytes: number): void {
    loadNative().prefetch(this.#store, begin, bytes);
  }

  /** Bytes written out and seconds spent waiting so far. */
  stats(): Promise<{ moved: number; waited: number }> {
    return loadNative().pagingStats(this.#store);
  }

  /** The memory itself is given back with its last tensor. */
  close(): void {
    loadNative().closePages(this.#store);
  }
}
