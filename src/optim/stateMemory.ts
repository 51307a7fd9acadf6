/** Where an optimizer's states lie: in the device's memory, or in pages that can leave it. */
import { type Device, ops, PAGE_ALIGNMENT, type PageStore, type Tensor } from "../torch/index.js";
import type { PagingStats } from "./optimizer.js";
import type { PageTier } from "./pageTiers.js";
import { type StateSpec, stateBytes } from "./updateRule.js";

/** States of some parameters, used together: `enter` before they are read or updated, `leave` after. */
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
 * States in pages. With a budget, as many pages as fit stay and the others come and go in every update: an update sweeps
 * all pages in order, so that keeping the first ones beats keeping the last used.
 */
export class PagedStateMemory implements StateMemory {
  readonly device: Device;
  readonly #tier: PageTier;
  readonly #budget: number | undefined;
  #store: PageStore | undefined;
  #layout: { begin: number; bytes: number }[] = [];
  #resident = 0;

  /** @param budget bytes of states to keep in the device's memory at most; undefined: as the tier has it */
  constructor(tier: PageTier, budget: number | undefined) {
    this.device = tier.device;
    this.#tier = tier;
    this.#budget = budget;
  }

  pages(states: readonly (readonly StateSpec[])[]): StatePage[] {
    const bytesOf = states.map((specs) => specs.reduce((sum, spec) => sum + pagedBytes(spec), 0));
    const target = Math.min(PAGE_BYTES, (this.#budget ?? Number.POSITIVE_INFINITY) / 4);
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
    const sizes = groups.map((members) =>
      roundUp(
        members.reduce((sum, index) => sum + bytesOf[index]!, 0),
        PAGE_ALIGNMENT,
      ),
    );
    this.#resident = this.#countResident(sizes);
    let end = 0;
    this.#layout = sizes.map((bytes, page) => {
      const begin = end;
      if (this.#isStored(page)) end += bytes;
      return { begin, bytes };
    });
    const borders = this.#layout.filter((_, page) => this.#isStored(page)).map(({ begin }) => begin);
    if (borders.length > 0) this.#store = this.#tier.open([...borders, end]);
    return groups.map((members, page) => this.#page(members, page));
  }

  /** Pages that stay, when the largest of the others needs room too. */
  #countResident(sizes: readonly number[]): number {
    const budget = this.#budget ?? (this.#tier.keepsAll ? Number.POSITIVE_INFINITY : 0);
    let total = sizes.reduce((sum, bytes) => sum + bytes, 0);
    if (total <= budget) return sizes.length;
    total = 0;
    let count = 0;
    const moving = 2 * Math.max(...sizes); // the one in use and the one being fetched
    while (count < sizes.length && total + sizes[count]! + moving <= budget) total += sizes[count++]!;
    return count;
  }

  #isStored(page: number): boolean {
    return this.#tier.keepsAll || page >= this.#resident;
  }

  #page(members: number[], page: number): StatePage {
    const store = this.#store;
    const { begin, bytes } = this.#layout[page]!;
    const moves = page >= this.#resident;
    let used = 0;
    return {
      members,
      zeros: (spec) => {
        if (!store || !this.#isStored(page)) return ops.zeros([...spec.shape], spec.dtype, this.device);
        const tensor = store.tensor(begin + used, spec.dtype, spec.shape);
        used += pagedBytes(spec);
        return tensor;
      },
      enter: () => {
        if (moves) store!.pageIn(begin, bytes);
        const next = this.#layout[page + 1];
        if (next && page + 1 >= this.#resident) store!.prefetch(next.begin, next.bytes);
      },
      leave: () => {
        if (moves) store!.pageOut(begin, bytes);
      },
    };
  }

  describe(): string {
    const total = this.#layout.reduce((sum, { bytes }) => sum + bytes, 0);
    const moving = this.#layout.length - this.#resident;
    const limit =
      this.#budget === undefined
        ? this.#tier.unlimited
        : `budget ${mebibytes(this.#budget)}: ${this.#resident} stay in memory, ${moving} come and go in every update`;
    return `${this.#layout.length} pages of states, ${mebibytes(total)}, ${limit}`;
  }

  async stats(): Promise<PagingStats> {
    const moved = (await this.#store?.stats()) ?? { moved: 0, waited: 0 };
    return { pages: this.#layout.length, resident: this.#resident, ...moved };
  }

  dispose(): void {
    this.#store?.close();
  }
}
