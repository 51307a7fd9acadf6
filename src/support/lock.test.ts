import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeEach, expect, test } from "vitest";
import { temporaryFolder } from "../../tests/setup/fakes.js";
import { tryLock, withLock } from "./lock.js";
import { describeProcess, thisProcess } from "./process.js";

let folder: string;
let lock: string;
beforeEach(() => {
  folder = temporaryFolder();
  lock = join(folder, "deep/.lock");
  return () => rmSync(folder, { recursive: true });
});

test("one at a time, and the others are told once whom they wait for", async () => {
  let inside = 0;
  let most = 0;
  const told: string[] = [];
  const work = async () => {
    most = Math.max(most, ++inside);
    await sleep(400);
    inside--;
  };
  await Promise.all([1, 2, 3].map(() => withLock(lock, (holder) => told.push(holder), work)));
  expect(most).toBe(1);
  expect(told).toEqual(Array(2).fill(describeProcess(thisProcess())));
  expect(readdirSync(join(folder, "deep"))).toEqual([]);
});

test("the lock goes when the work fails", async () => {
  await expect(
    withLock(
      lock,
      () => {},
      () => Promise.reject(new Error("no")),
    ),
  ).rejects.toThrow("no");
  expect(existsSync(lock)).toBe(false);
});

const deadPid = spawnSync(process.execPath, ["-e", ""]).pid;
const leave = (text: string, ageMs = 0) => {
  writeFileSync(lock, text);
  const then = new Date(Date.now() - ageMs);
  utimesSync(lock, then, then);
};
test.each([
  ["of a dead process", () => leave(JSON.stringify({ ...thisProcess(), pid: deadPid, token: "a" }))],
  [
    "of an earlier process with the number of a living one",
    () => leave(JSON.stringify({ ...thisProcess(), started: "before", token: "d" })),
  ],
  ["without a heartbeat for a minute", () => leave(JSON.stringify({ pid: 1, host: "elsewhere", token: "b" }), 61_000)],
  ["that was cut short, after a minute", () => leave("{", 61_000)],
])("a lock %s is taken over", async (_name, make) => {
  await withLock(
    lock,
    () => {},
    async () => {},
  ); // makes the folder
  make();
  const told: string[] = [];
  expect(
    await withLock(
      lock,
      (holder) => told.push(holder),
      async () => "done",
    ),
  ).toBe("done");
  expect(told).toEqual([]);
  expect(readdirSync(join(folder, "deep"))).toEqual([]);
});

test("a living lock of another machine is waited for", async () => {
  await withLock(
    lock,
    () => {},
    async () => {},
  );
  leave(JSON.stringify({ pid: deadPid, host: "elsewhere", token: "c" }));
  const told: string[] = [];
  const waiting = withLock(
    lock,
    (holder) => told.push(holder),
    async () => "done",
  );
  await sleep(500);
  expect(told).toEqual([`process ${deadPid} on elsewhere`]);
  rmSync(lock);
  expect(await waiting).toBe("done");
});

test("a lock of a process that lives here is held, however long that process was suspended", () => {
  const lock = join(folder, ".lock");
  const held = tryLock(lock);
  const then = new Date(Date.now() - 600_000);
  utimesSync(lock, then, then);
  expect(tryLock(lock)).toBe(describeProcess(thisProcess()));
  if (typeof held !== "string") held.release();
});

test("whoever does not wait is told who holds it", () => {
  const lock = join(folder, ".lock");
  const held = tryLock(lock);
  expect(tryLock(lock)).toBe(describeProcess(thisProcess()));
  if (typeof held === "string") throw new Error(held);
  held.release();
  expect(readdirSync(folder)).toEqual([]);
  expect(typeof tryLock(lock)).toBe("object");
});
