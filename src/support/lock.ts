import { randomUUID } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A holder touches its lock this often; a lock untouched for STALE_MS is abandoned even if its process cannot be asked. */
const HEARTBEAT_MS = 5_000;
const STALE_MS = 60_000;

interface Holder {
  pid: number;
  host: string;
  token: string;
}

/**
 * Runs `work` while holding the lock file, waiting for another holder first (`onWait` is told once who it is).
 * The lock of a process that died is taken over.
 */
export async function withLock<T>(file: string, onWait: (holder: string) => void, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(file), { recursive: true });
  const me: Holder = { pid: process.pid, host: hostname(), token: randomUUID() };
  let told = false;
  while (!take(file, me)) {
    const holder = readHolder(file);
    if (holder === undefined) continue; // released in between
    if (isStale(file, holder)) breakLock(file, holder);
    else {
      if (!told) onWait(holder.pid ? `process ${holder.pid} on ${holder.host}` : "another process");
      told = true;
      await sleep(300);
    }
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    try {
      utimesSync(file, now, now);
    } catch {} // gone: somebody removed it by hand
  }, HEARTBEAT_MS);
  heartbeat.unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if (readHolder(file)?.token === me.token) rmSync(file, { force: true });
  }
}

function take(file: string, me: Holder): boolean {
  try {
    writeFileSync(file, JSON.stringify(me), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** undefined: there is no lock. A holder of empty fields: a lock whose owner cannot be read. */
function readHolder(file: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Holder;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? undefined : { pid: 0, host: "", token: "" };
  }
}

function isStale(file: string, holder: Holder): boolean {
  const age = Date.now() - (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (age > STALE_MS) return true;
  if (holder.host !== hostname() || !holder.pid) return false;
  try {
    process.kill(holder.pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

/** Takes an abandoned lock away; if somebody else renewed it meanwhile, puts theirs back. */
function breakLock(file: string, stale: Holder): void {
  const aside = `${file}.${randomUUID()}`;
  try {
    renameSync(file, aside);
  } catch {
    return; // another waiter was faster
  }
  if (readHolder(aside)?.token !== stale.token) {
    try {
      linkSync(aside, file);
    } catch {}
  }
  rmSync(aside, { force: true });
}
