import type { EventEmitter } from "node:events";

/** What a shell expects of a process that a signal ended: 128 + the signal's number. */
export const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export type Signal = keyof typeof EXIT_CODES;

const SIGNALS = Object.keys(EXIT_CODES) as Signal[];

/**
 * Until disposed of: the first of the signals calls `stop`; a second SIGINT or SIGTERM ends the process at once, as if
 * nobody had listened: `process.exit` would tear the engine down while it computes. A second SIGHUP does nothing: a
 * terminal that closes sends it twice, once by the shell and once by the system.
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
    this.listeners = SIGNALS.map((signal) => [
      signal,
      () => {
        if (this.signal === undefined) {
          this.signal = signal;
          stop(signal);
        } else if (signal !== "SIGHUP") {
          this[Symbol.dispose]();
          quit(signal);
        }
      },
    ]);
    for (const [signal, listener] of this.listeners) source.on(signal, listener);
  }

  [Symbol.dispose](): void {
    for (const [signal, listener] of this.listeners) this.source.off(signal, listener);
  }
}
