import type { EventEmitter } from "node:events";

export type Signal = "SIGINT" | "SIGTERM";

/** What a shell expects of a process that a signal ended: 128 + the signal's number. */
export const EXIT_CODES: Record<Signal, number> = { SIGINT: 130, SIGTERM: 143 };

/**
 * Until disposed of: the first SIGINT or SIGTERM calls `stop`, a second one ends the process at once, as if nobody had
 * listened: `process.exit` would tear the engine down while it computes.
 * `signal` is the one that came first.
 */
export class Interrupts {
  signal: Signal | undefined;
  private readonly source: EventEmitter;
  private readonly listeners: [Signal, () => void][];

  constructor(
    stop: (signal: Signal) => void,
    source: EventEmitter = process,
    quit: (signal: Signal) => void = (signal) => process.kill(process.pid, signal),
  ) {
    this.source = source;
    this.listeners = (["SIGINT", "SIGTERM"] as const).map((signal) => [
      signal,
      () => {
        if (this.signal !== undefined) {
          this[Symbol.dispose]();
          quit(signal);
          return;
        }
        this.signal = signal;
        stop(signal);
      },
    ]);
    for (const [signal, listener] of this.listeners) source.on(signal, listener);
  }

  [Symbol.dispose](): void {
    for (const [signal, listener] of this.listeners) this.source.off(signal, listener);
  }
}
