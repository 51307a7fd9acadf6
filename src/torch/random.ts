/** PyTorch's random generators: the same seed gives the same numbers as in Python. */
import { loadNative } from "./native.js";
import { Tensor } from "./tensor.js";

/** A generator of its own, beside the default one that dropout and the initialisers draw from. */
export class RandomGenerator {
  readonly handle: number;

  constructor(seed: number) {
    this.handle = loadNative().createGenerator(seed);
  }

  /** Continues from the bytes that `rngState()` gave. */
  setState(state: Uint8Array): void {
    loadNative().setRngState(state, this.handle);
  }

  dispose(): void {
    loadNative().freeGenerator(this.handle);
  }
}

/** Seeds the default generator, in order with the ops enqueued before. */
export function manualSeed(seed: number): void {
  loadNative().manualSeed(seed, null);
}

/** Whether only ops that give the same bits every time may run: others then reject the next await. */
export function setDeterministic(on: boolean): void {
  loadNative().setDeterministic(on);
}

/** PyTorch's own state bytes of the default generator. */
export function rngState(): Promise<Uint8Array> {
  return loadNative().getRngState(null);
}

export function setRngState(state: Uint8Array): void {
  loadNative().setRngState(state, null);
}

/** The default generator's state at this place among the ops, for `replayRng`: nothing is waited for. */
export function saveRng(): Tensor {
  return new Tensor(loadNative().saveRng());
}

/** From here on the default generator draws again what it drew after `saveRng`. */
export function replayRng(state: Tensor): void {
  loadNative().replayRng(state.handle);
}
