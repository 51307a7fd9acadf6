import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { EXIT_CODES, Interrupts } from "./interrupt.js";

describe("Interrupts", () => {
  it("stops at the first signal and exits at the second", () => {
    const source = new EventEmitter();
    const stopped: string[] = [];
    const exits: number[] = [];
    const interrupts = new Interrupts(
      (signal) => stopped.push(signal),
      source,
      (code) => exits.push(code),
    );
    expect(interrupts.signal).toBeUndefined();
    source.emit("SIGTERM");
    expect(stopped).toEqual(["SIGTERM"]);
    expect(exits).toEqual([]);
    source.emit("SIGINT");
    expect(stopped).toEqual(["SIGTERM"]);
    expect(exits).toEqual([130]);
    expect(EXIT_CODES[interrupts.signal!]).toBe(143);
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
