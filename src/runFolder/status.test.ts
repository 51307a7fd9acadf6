import { existsSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { phaseNow, readStatus, type Status, StatusWriter } from "./status.js";

const newFolder = temporaryFolders();

describe("status.json", () => {
  it("follows phases at once and figures within a second, and is never half written", async () => {
    const folder = newFolder();
    const writer = await StatusWriter.open(folder, "id", () => {});
    let reads = 0;
    let over = false;
    const reading = (async () => {
      while (!over) {
        const text = await import("node:fs/promises").then(({ readFile }) =>
          readFile(join(folder, "status.json"), "utf8").catch(() => "{}"),
        );
        JSON.parse(text);
        reads++;
      }
    })();
    writer.update({ phase: "training", max_steps: 9 });
    await sleep(100);
    expect(await readStatus(folder)).toMatchObject({
      run: "id",
      phase: "training",
      step: 0,
      max_steps: 9,
      pid: process.pid,
    });
    const before = (await readStatus(folder))!.updated;
    for (let step = 1; step <= 5; step++) writer.update({ step });
    await sleep(50);
    expect((await readStatus(folder))!.updated, "at most once a second").toBe(before);
    await sleep(1100);
    const later = (await readStatus(folder))!;
    expect(later.step).toBe(5);
    expect(later.memory.resident).toBeGreaterThan(2 ** 20);
    const phases: string[] = [];
    await writer.during("saving", async () => {
      await sleep(50);
      phases.push((await readStatus(folder))!.phase);
    });
    await sleep(50);
    phases.push((await readStatus(folder))!.phase);
    expect(phases).toEqual(["saving", "training"]);
    await writer.end({ phase: "finished" });
    over = true;
    await reading;
    expect(reads).toBeGreaterThan(10);
    expect(await phaseNow(folder, (await readStatus(folder))!)).toBe("finished");
    expect(readdirSync(folder)).toEqual(["status.json"]);
  });

  it("keeps the newest answers", async () => {
    const folder = newFolder();
    const writer = await StatusWriter.open(folder, "id", () => {});
    for (let i = 0; i < 60; i++) writer.answer({ id: String(i), do: "save", ok: true, message: "", step: i, time: "" });
    await writer.end({ phase: "finished" });
    const { answers } = (await readStatus(folder))!;
    expect(answers).toHaveLength(50);
    expect(answers.at(-1)!.id).toBe("59");
  });

  it("can be taken back, and a disk that refuses is told once", async () => {
    const folder = newFolder();
    writeFileSync(join(folder, "status.json"), "earlier");
    await (await StatusWriter.open(folder, "id", () => {})).takeBack();
    expect(readFileSync(join(folder, "status.json"), "utf8")).toBe("earlier");
    const lines: string[] = [];
    const writer = await StatusWriter.open(folder, "id", (line) => lines.push(line));
    await sleep(100); // its first write is done
    rmSync(folder, { recursive: true });
    writer.update({ phase: "training" });
    await sleep(20);
    await writer.end({ phase: "finished" });
    expect(existsSync(folder)).toBe(false);
    expect(lines).toEqual([expect.stringMatching(/status.json: ENOENT.*Training goes on without it/)]);
  });
});

describe("phaseNow", () => {
  it("tells a dead run from a live one", async () => {
    const folder = newFolder();
    const writer = await StatusWriter.open(folder, "id", () => {});
    writer.update({ phase: "training" });
    await sleep(50);
    const status = (await readStatus(folder))!;
    const phase = (change: Partial<Status>) => phaseNow(folder, { ...status, ...change });
    expect(await phase({})).toBe("training");
    expect(await phase({ pid: 2 ** 22 + 1 })).toBe("dead");
    expect(await phase({ started: "before the last reboot" })).toBe("dead");
    expect(await phase({ phase: "failed", pid: 2 ** 22 + 1 })).toBe("failed");
    expect(await phase({ host: "elsewhere" }), "written a moment ago").toBe("training");
    const then = new Date(Date.now() - 61_000);
    utimesSync(join(folder, "status.json"), then, then);
    expect(await phase({ host: "elsewhere" })).toBe("dead");
    await writer.end({ phase: "finished" });
  });
});
