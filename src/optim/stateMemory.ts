/** Where an optimizer's states lie: in RAM, or in pages that can move to disk. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { UserError } from "../errors.js";
import { type Device, ops, PageFile, type Tensor } from "../torch/index.js";
import { PAGE_ALIGNMENT } from "../torch/pageFile.js";
import { type StateSpec, stateBytes } from "./updateRule.js";

/** States of some parameters, used together: `enter` before an update of them, `leave` after. */
export interface StatePage {
  /** Which parameters, by their place in the list. */
  members: number[];
  /** A tensor of zeros in this page; each state of its members is taken once, in order. */
  zeros(spec: StateSpec): Tensor;
  enter(): void;
  leave(): void;
}

export interface StateMemory {
  /** Where the optimizer computes. */
  readonly device: Device;
  /** Lays out the pages for the states of each parameter; called once. */
  pages(states: readonly (readonly StateSpec[])[]): StatePage[];
  /** What a person should know about the layout. */
  describe(): string | undefined;
  stats(): Promise<PagingStats | undefined>;
  dispose(): void;
}

export interface PagingStats {
  pages: number;
  resident: number;
  /** Bytes written out so far. */
  moved: number;
  /** Seconds spent waiting for that. */
  waited: number;
}

/** All states in the device's memory. */
export class PlainStateMemory implements StateMemory {
  readonly device: Device;

  constructor(device: Device) {
    this.device = device;
  }

  pages(states: readonly (readonly StateSpec[])[]): StatePage[] {
    const members = Array.from(states.keys());
    const zeros = ({ shape, dtype }: StateSpec) => ops.zeros([...shape], dtype, this.device);
    return [{ members, zeros, enter: () => {}, leave: () => {} }];
  }

  describe(): undefined {}

  async stats(): Promise<undefined> {}

  dispose(): void {}
}

/** A page holds whole parameters, up to about this much; smaller under a small budget. */
const PAGE_BYTES = 16 * 1024 * 1024;

/** Tensors in a page begin at multiples of a cache line. */
const LINE = 64;

const roundUp = (bytes: number, multiple: number) => Math.ceil(bytes / multiple) * multiple;
const pagedBytes = (spec: StateSpec) => roundUp(stateBytes(spec), LINE);
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/**
 * States in pages over a file: the system moves them to disk when memory runs short. With a budget, as many pages as
 * fit stay in RAM and the others come and go in every update: an update sweeps all pages in order, so that keeping the
 * first ones beats keeping the last used.
 */
export class PagedStateMemory implements StateMemory {
  readonly device = "cpu";
  readonly #folder: string;
  readonly #budget: number;
  #file: PageFile | undefined;
  #layout: { begin: number; bytes: number }[] = [];
  #resident = 0;

  /** @param budget bytes of states to keep in RAM at most; undefined: the system decides */
  constructor(folder: string, budget: number | undefined) {
    this.#folder = folder;
    this.#budget = budget ?? Number.POSITIVE_INFINITY;
  }

  pages(states: readonly (readonly StateSpec[])[]): StatePage[] {
    const bytesOf = states.map((specs) => specs.reduce((sum, spec) => sum + pagedBytes(spec), 0));
    const target = Math.min(PAGE_BYTES, this.#budget / 4);
    const groups: number[][] = [];
    let size = Number.POSITIVE_INFINITY;
    for (const [index, bytes] of bytesOf.entries()) {
      if (size + bytes > target) {
        groups.push([]);
        size = 0;
      }
      groups.at(-1)!.push(index);
      size += bytes;
    }
    let end = 0;
    this.#layout = groups.map((members) => {
      const begin = end;
      const bytes = members.reduce((sum, index) => sum + bytesOf[index]!, 0);
      end += roundUp(bytes, PAGE_ALIGNMENT);
      return { begin, bytes: end - begin };
    });
    this.#resident = this.#countResident();
    const path = join(this.#folder, `.optimizer-pages-${process.pid}-${randomBytes(4).toString("hex")}`);
    try {
      this.#file = new PageFile(path, end);
    } catch (error) {
      throw new UserError(
        `optim: the pages of a paged optimizer need ${mebibytes(end)} in output_dir: ${(error as Error).message}. Make room, choose another output_dir, or use adamw_torch_fused.`,
      );
    }
    return groups.map((members, page) => this.#page(members, page));
  }

  /** Pages that stay, when the largest of the others needs room too. */
  #countResident(): number {
    const sizes = this.#layout.map(({ bytes }) => bytes);
    let total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    if (total <= this.#budget) return sizes.length;
    total = 0;
    let count = 0;
    const moving = 2 * Math.max(...sizes); // the one in use and the one being fetched
    while (count < sizes.length && total + sizes[count]! + moving <= this.#budget) total += sizes[count++]!;
    return count;
  }

  #page(members: number[], page: number): StatePage {
    const file = this.#file!;
    const { begin, bytes } = this.#layout[page]!;
    let used = 0;
    return {
      members,
      zeros: (spec) => {
        const tensor = file.tensor(begin + used, spec.dtype, spec.shape);
        used += pagedBytes(spec);
        return tensor;
      },
      enter: () => {
        const next = this.#layout[page + 1];
        if (next && page + 1 >= this.#resident) file.prefetch(next.begin, next.bytes);
      },
      leave: () => {
        if (page >= this.#resident) file.pageOut(begin, bytes);
      },
    };
  }

  describe(): string {
    const total = this.#layout.reduce((sum, { bytes }) => sum + bytes, 0);
    const moving = this.#layout.length - this.#resident;
    const limit =
      this.#budget === Number.POSITIVE_INFINITY
        ? "moved to disk by the system when memory runs short"
        : `budget ${mebibytes(this.#budget)}: ${this.#resident} stay in memory, ${moving} come and go in every update`;
    return `${this.#layout.length} pages of states, ${mebibytes(total)}, ${limit}`;
  }

  async stats(): Promise<PagingStats> {
    return { pages: this.#layout.length, resident: this.#resident, ...(await this.#file!.stats()) };
  }

  dispose(): void {
    this.#file?.close();
  }
}
