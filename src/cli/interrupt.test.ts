import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { EXIT_CODES, Interrupts } from "./interrupt.js";

describe("Interrupts", () => {
  it("stops at the first signal and lets the second one through", () => {
    const source = new EventEmitter();
    const stopped: string[] = [];
    const quits: string[] = [];
    const interrupts = new Interrupts(
      (signal) => stopped.push(signal),
      source,
      (signal) => quits.push(`${signal} ${source.listenerCount(signal)}`),
    );
    expect(interrupts.signal).toBeUndefined();
    source.emit("SIGTERM");
    expect(stopped).toEqual(["SIGTERM"]);
    expect(quits).toEqual([]);
    source.emit("SIGINT");
    expect(stopped).toEqual(["SIGTERM"]);
    expect(quits).toEqual(["SIGINT 0"]);
    expect(EXIT_CODES[interrupts.signal!]).toBe(143);
  });

  it("a terminal that closes says so twice, which is no wish to quit", () => {
    const source = new EventEmitter();
    const calls: string[] = [];
    using interrupts = new Interrupts(
      (signal) => calls.push(`stop ${signal}`),
      source,
      (signal) => calls.push(`quit ${signal}`),
    );
    for (const signal of ["SIGHUP", "SIGHUP", "SIGTERM"]) source.emit(signal);
    expect(calls).toEqual(["stop SIGHUP", "quit SIGTERM"]);
    expect(EXIT_CODES[interrupts.signal!]).toBe(129);
  });

  it("lets go of the signals when it is disposed of", () => {
    const source = new EventEmitter();
    {
      using _ = new Interrupts(() => {}, source);
      expect(source.listenerCount("SIGINT")).toBe(1);
    }
    expect(source.eventNames()).toEqual([]);
  });
});
