/** PyTorch's random generators: the same seed gives the same numbers as in Python. */
import type { Device } from "./device.js";
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

/** Seeds the default generators of all devices, in order with the ops enqueued before. */
export function manualSeed(seed: number): void {
  loadNative().manualSeed(seed, null);
}

/** Whether only ops that give the same bits every time may run: others then reject the next await. */
export function setDeterministic(on: boolean): void {
  if (on) process.env.CUBLAS_WORKSPACE_CONFIG ??= ":16:8"; // cuBLAS sums in one order only with a workspace of its own
  loadNative().setDeterministic(on);
}

/** PyTorch's own state bytes of a device's default generator. */
export function rngState(device: Device = "cpu"): Promise<Uint8Array> {
  return loadNative().getRngState(device);
}

export function setRngState(state: Uint8Array, device: Device = "cpu"): void {
  loadNative().setRngState(state, device);
}

/** The states of all default generators that a run on this device draws from, by device. */
export async function rngStates(device: Device): Promise<Map<Device, Uint8Array>> {
  const states = new Map<Device, Uint8Array>();
  for (const name of new Set<Device>(["cpu", device])) states.set(name, await rngState(name));
  return states;
}

export function setRngStates(states: ReadonlyMap<Device, Uint8Array>): void {
  for (const [name, state] of states) setRngState(state, name);
}

/** The state of a device's default generator at this place among the ops, for `replayRng`: nothing is waited for. */
export function saveRng(device: Device): Tensor {
  return new Tensor(loadNative().saveRng(device));
}

/** From here on the device's default generator draws again what it drew after `saveRng`. */
export function replayRng(state: Tensor, device: Device): void {
  loadNative().replayRng(state.handle, device);
}
