/** A model that outlives the run that trained it: freed by hand, or when its owner is collected. */
import type { CausalLM } from "../models/causalLM.js";

/** Must not know the owner, who would then never be collected. */
class Keeper {
  released = false;
  model: CausalLM | undefined;

  release(): void {
    this.released = true;
    this.model?.dispose();
    this.model = undefined;
    keepers.delete(this);
  }
}

const keepers = new Set<Keeper>();
const forgotten = new FinalizationRegistry((keeper: Keeper) => keeper.release());

export class KeptModel {
  readonly #keeper = new Keeper();

  constructor(owner: object) {
    forgotten.register(owner, this.#keeper);
  }

  /** Whether it was freed, or is to be as soon as it is there. */
  get released(): boolean {
    return this.#keeper.released;
  }

  keep(model: CausalLM): void {
    this.#keeper.model = model;
    keepers.add(this.#keeper);
    if (this.#keeper.released) this.#keeper.release();
  }

  release(): void {
    this.#keeper.release();
  }
}

/** Frees what all Trainers of the process have kept. */
export function releaseKeptModels(): void {
  for (const keeper of [...keepers]) keeper.release();
}
