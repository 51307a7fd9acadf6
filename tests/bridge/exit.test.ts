/** An end in the middle of work is an end, never a crash: each way several times, as the moment differs each time. */
import { describe, expect, it } from "vitest";
import { type Ended, nativePath, start } from "./support.js";

const TIMES = 3;

async function repeat(way: string, check: (ended: Ended) => void): Promise<void> {
  const runs = Array.from({ length: TIMES }, () => start("exit.child.mjs", [nativePath, way]).ended);
  for (const ended of await Promise.all(runs)) check(ended);
}

describe("ends with work queued and reads pending", () => {
  it.each([
    ["exit", 7],
    ["exit from a promise", 8],
    ["exit in an exit handler's time", 0],
    ["exit with a busy worker", 9],
    ["end", 0],
  ])("%s", async (way, expected) => {
    await repeat(way, ({ code, signal, stderr }) =>
      expect({ code, signal, stderr }).toEqual({ code: expected, signal: null, stderr: "" }),
    );
  });

  it.each([
    ["throw", "Error: uncaught"],
    ["reject", "Error: unhandled"],
    ["failed op", "Error: aten::matmul: "],
  ])("%s", async (way, message) => {
    await repeat(way, ({ code, signal, stderr }) => {
      expect({ code, signal }).toEqual({ code: 1, signal: null });
      expect(stderr).toContain(message);
    });
  });

  it.each(["SIGTERM", "SIGINT"] as const)("%s", async (signal) => {
    const runs = Array.from({ length: TIMES }, (_, i) => {
      const { child, ended } = start("exit.child.mjs", [nativePath, "signal"]);
      child.stdout.once("data", () => setTimeout(() => child.kill(signal), i * 5));
      return ended;
    });
    for (const ended of await Promise.all(runs)) expect(ended).toMatchObject({ code: null, signal });
  });
});

it("stays alive while somebody waits for a read", async () => {
  const { code, stdout } = await start("exit.child.mjs", [nativePath, "pending read"]).ended;
  expect({ code, stdout }).toEqual({ code: 0, stdout: "read 256,256\n" });
});

it("survives workers that are terminated in the middle of a call", async () => {
  await repeat("terminated workers", ({ code, signal, stdout, stderr }) =>
    expect({ code, signal, stdout, stderr }).toEqual({ code: 0, signal: null, stdout: "first true\n", stderr: "" }),
  );
});
