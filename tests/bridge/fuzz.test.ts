/**
 * Nothing that JavaScript passes in crashes the process. SLIMTUNE_FUZZ_CALLS=200000 throws more calls,
 * SLIMTUNE_FUZZ_SEED repeats a run.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { nativePath, openOps, start } from "./support.js";

const calls = Number(process.env.SLIMTUNE_FUZZ_CALLS ?? 4000);
const seed = Number(process.env.SLIMTUNE_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));

it(`survives ${calls} random calls (seed ${seed})`, { timeout: 60_000 + calls * 20 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-fuzz-"));
  const log = join(folder, "calls.log");
  try {
    const ops = openOps();
    expect(ops.length).toBeGreaterThan(40);
    const { ended } = start("fuzz.child.mjs", [nativePath, String(seed), String(calls), log, ...ops], {
      cwd: folder, // some of the names that it makes up are of files to create
      env: { TMPDIR: folder },
    });
    const { code, signal, stdout, stderr } = await ended;
    const tail = () => readFileSync(log, "utf8").split("\n").slice(-40).join("\n");
    if (code !== 0) expect.fail(`ended with ${signal ?? code}\n${stderr}\nlast calls:\n${tail()}`);
    const { threw, rejected, ran, live } = JSON.parse(stdout);
    // The calls must not all have been refused at the door, and some must have failed behind it.
    expect(ran).toBeGreaterThan(calls / 5);
    expect(threw).toBeGreaterThan(calls / 10);
    expect(rejected).toBeGreaterThan(0);
    expect(live).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
