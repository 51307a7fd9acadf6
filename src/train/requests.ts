/** What people and programs ask of a run while it goes: stop, pause, save, evaluate, change a setting. */
import type { EventHub } from "../callbacks/events.js";
import type { Settable, SettableValues } from "../runFolder/control.js";
import { UserError } from "../support/errors.js";

/** How the loop meets what it was asked for. */
export interface Actions {
  /** @returns the checkpoint's path */
  save(): Promise<string>;
  /** @returns undefined when the run was asked to stop on the way */
  evaluate(): Promise<Record<string, number> | undefined>;
  /** @throws UserError for values that cannot be; nothing has changed then */
  set(values: SettableValues): SettingChange[];
  /** Lets everyone know that the run is paused while `work` goes on. */
  paused<T>(work: () => Promise<T>): Promise<T>;
}

export interface SettingChange {
  name: Settable;
  from: number | null;
  to: number;
}

interface Waiting {
  meet(actions: Actions): Promise<void>;
  reject(reason: unknown): void;
}

/** Wishes that the loop meets after the update at hand. */
export class Requests {
  readonly #stop = new AbortController();
  readonly #events: EventHub;
  readonly #onChange: (changes: readonly SettingChange[], step: number, id: string) => Promise<void>;
  #paused = false;
  #over = false;
  #step = 0;
  #waiting: Waiting[] = [];
  #wake: () => void = () => {};

  /** @param onChange keeps changed settings, before the next update is made with them */
  constructor(
    events: EventHub,
    onChange: (changes: readonly SettingChange[], step: number, id: string) => Promise<void>,
  ) {
    this.#events = events;
    this.#onChange = onChange;
  }

  /** Aborts when the run is to end early. */
  get stopSignal(): AbortSignal {
    return this.#stop.signal;
  }

  get stopRequested(): boolean {
    return this.#stop.signal.aborted;
  }

  get over(): boolean {
    return this.#over;
  }

  /** @param reason what `train()` rejects with when training has not begun */
  stop(reason?: unknown): void {
    this.#stop.abort(reason);
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
    return this.#ask("saveNow()", "the checkpoint", (actions) => actions.save(), { endsRun: true });
  }

  /** Resolves to the metrics of an evaluation after the update at hand. */
  evaluateNow(): Promise<Record<string, number>> {
    return this.#ask("evaluateNow()", "the evaluation", async (actions) => {
      const metrics = await actions.evaluate();
      if (metrics) return metrics;
      throw new UserError("evaluateNow(): the run was asked to stop during the evaluation.");
    });
  }

  /**
   * Changes settings after the update at hand.
   * @param id of the request, for run.json
   */
  set(values: SettableValues, id: string): Promise<SettingChange[]> {
    return this.#ask("set()", "the change", async (actions) => {
      const changes = actions.set(values);
      await this.#onChange(changes, this.#step, id);
      return changes;
    });
  }

  /**
   * The loop's stop between two updates: does what is asked, and waits out a pause.
   * @returns milliseconds spent in a pause
   */
  async between(step: number, actions: Actions): Promise<number> {
    this.#step = step;
    await this.#meet(actions);
    if (!this.#paused || this.stopRequested) return 0;
    const begun = performance.now();
    this.#events.push({ type: "pause", step });
    const alive = setInterval(() => {}, 2 ** 30); // a paused run keeps its process
    try {
      await actions.paused(() => this.#waitOut(actions));
    } finally {
      clearInterval(alive);
      this.#wake = () => {};
    }
    this.#events.push({ type: "resume", step });
    return performance.now() - begun;
  }

  async #waitOut(actions: Actions): Promise<void> {
    while (this.#paused && !this.stopRequested) {
      await this.#meet(actions);
      if (!this.#paused || this.stopRequested || this.#waiting.length > 0) continue;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The run is over: whoever still waits hears why nothing came of it. */
  end(reason?: unknown): void {
    this.#over = true;
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }

  /** @param endsRun whether the run ends too when the wish cannot be met; else a UserError is the asker's alone */
  #ask<T>(call: string, what: string, meet: (actions: Actions) => Promise<T>, { endsRun = false } = {}): Promise<T> {
    if (this.#over) return Promise.reject(new UserError(`${call}: the run is over.`));
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({
        meet: async (actions) => {
          try {
            resolve(await meet(actions));
          } catch (error) {
            reject(error);
            if (endsRun || !(error instanceof UserError)) throw error;
          }
        },
        reject: (reason) => reject(reason ?? new UserError(`${call}: the run ended before ${what} was due.`)),
      });
      this.#wake();
    });
  }

  async #meet(actions: Actions): Promise<void> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) await next.meet(actions);
  }
}
