import { describe, expect, it } from "vitest";
import { readGoldenJson } from "../../../tests/support/goldens.js";
import { crc32c, restartEvent, scalarEvent, textEvent, versionEvent } from "./eventFile.js";

const { time, records } = readGoldenJson<{ time: number; records: Record<string, string> }>("tensorboard.json");

describe("records of an event file", () => {
  it.each<[string, Buffer]>([
    ["version", versionEvent(time)],
    ["restart", restartEvent(time, 300)],
    ["scalar", scalarEvent(time, 7, "train/loss", 1.2345678)],
    ["scalar-large-step", scalarEvent(time, 5_000_000_000, "eval/perplexity", 1e-30)],
    ["scalar-negative", scalarEvent(time, 1, "train/reward", -3.5)],
    ["text", textEvent(time, "args", '{"learning_rate": 0.0002, "run_name": "Zürich"}')],
  ])("%s is what TensorBoard's library writes", (name, record) => {
    expect(record.toString("hex")).toBe(records[name]);
  });

  it("have the checksum of RFC 3720", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  });
});
