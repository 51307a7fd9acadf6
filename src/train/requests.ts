/** What people and programs ask of a run while it goes: stop, pause, save. */

import type { EventHub } from "../callbacks/events.js";
import { UserError } from "../support/errors.js";

interface SaveRequest {
  resolve: (path: string) => void;
  reject: (reason: unknown) => void;
}

/** Wishes that the loop meets after the update at hand. */
export class Requests {
  readonly #stop = new AbortController();
  readonly #events: EventHub;
  #paused = false;
  #over = false;
  #saves: SaveRequest[] = [];
  #wake: () => void = () => {};

  constructor(events: EventHub) {
    this.#events = events;
  }

  /** Aborts when the run is to end early. */
  get stopSignal(): AbortSignal {
    return this.#stop.signal;
  }

  get stopRequested(): boolean {
    return this.#stop.signal.aborted;
  }

  stop(): void {
    this.#stop.abort();
    this.#wake();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  /** Resolves to the path of a checkpoint of the update at hand, or of this moment in a pause. */
  saveNow(): Promise<string> {
    if (this.#over) return Promise.reject(new UserError("saveNow(): the run is over; nothing more can be saved."));
    return new Promise((resolve, reject) => {
      this.#saves.push({ resolve, reject });
      this.#wake();
    });
  }

  /**
   * The loop's stop between two updates: saves where that is wished for, and waits out a pause.
   * @returns milliseconds spent in a pause
   */
  async between(step: number, save: () => Promise<string>): Promise<number> {
    await this.#save(save);
    if (!this.#paused || this.stopRequested) return 0;
    const begun = performance.now();
    this.#events.push({ type: "pause", step });
    const alive = setInterval(() => {}, 2 ** 30); // a paused run keeps its process
    try {
      while (this.#paused && !this.stopRequested) {
        await this.#save(save);
        if (!this.#paused || this.stopRequested || this.#saves.length > 0) continue;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearInterval(alive);
      this.#wake = () => {};
    }
    this.#events.push({ type: "resume", step });
    return performance.now() - begun;
  }

  /** The run is over: whoever still waits for a checkpoint hears why there is none. */
  end(reason?: unknown): void {
    this.#over = true;
    for (const { reject } of this.#saves.splice(0)) {
      reject(reason ?? new UserError("saveNow(): the run ended before the checkpoint was due."));
    }
  }

  async #save(save: () => Promise<string>): Promise<void> {
    while (this.#saves.length > 0) {
      const requests = this.#saves.splice(0);
      try {
        const path = await save();
        for (const { resolve } of requests) resolve(path);
      } catch (error) {
        for (const { reject } of requests) reject(error);
        throw error;
      }
    }
  }
}
