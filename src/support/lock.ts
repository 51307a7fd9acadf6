/** Files that say who is at work on something, so that nobody else is. */
import { randomUUID } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describeProcess, isAlive, type ProcessId, thisProcess } from "./process.js";

/** A holder touches its lock this often; where its process cannot be asked, a lock untouched for STALE_MS is abandoned. */
const HEARTBEAT_MS = 5_000;
const STALE_MS = 60_000;

interface Holder extends ProcessId {
  token: string;
}

/** A lock file that is held until `release`, or until this process dies. */
export interface Lock {
  release(): void;
}

/**
 * Takes the lock file, or says who holds it. The lock of a process that died is taken over.
 * @returns the lock, or its holder as a person reads it
 */
export function tryLock(file: string): Lock | string {
  const me: Holder = { ...thisProcess(), token: randomUUID() };
  while (!take(file, me)) {
    const holder = readHolder(file);
    if (holder === undefined) continue; // released in between
    if (!isStale(file, holder)) return holder.pid ? describeProcess(holder) : "another process";
    breakLock(file, holder);
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    try {
      utimesSync(file, now, now);
    } catch {} // gone: somebody removed it by hand
  }, HEARTBEAT_MS);
  heartbeat.unref();
  return {
    release() {
      clearInterval(heartbeat);
      if (readHolder(file)?.token === me.token) rmSync(file, { force: true });
    },
  };
}

/** Runs `work` while holding the lock file, waiting for another holder first (`onWait` is told once who it is). */
export async function withLock<T>(file: string, onWait: (holder: string) => void, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(file), { recursive: true });
  let told = false;
  let lock = tryLock(file);
  while (typeof lock === "string") {
    if (!told) onWait(lock);
    told = true;
    await sleep(300);
    lock = tryLock(file);
  }
  try {
    return await work();
  } finally {
    lock.release();
  }
}

/** A lock appears with its holder in it: a process that is killed on the way leaves none. */
function take(file: string, me: Holder): boolean {
  const aside = `${file}.${me.token}`;
  try {
    writeFileSync(aside, JSON.stringify(me));
    linkSync(aside, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** undefined: there is no lock. A holder of empty fields: a lock whose owner cannot be read. */
function readHolder(file: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Holder;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    return { pid: 0, host: "", started: "", token: "" };
  }
}

function isStale(file: string, holder: Holder): boolean {
  const alive = holder.pid > 0 ? isAlive(holder) : undefined;
  if (alive === false) return true;
  // A process that was suspended, or whose machine slept, has not touched its lock, and goes on. Without its start it may be
  // another one of that number.
  if (alive === true && holder.started !== "") return false;
  return Date.now() - (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > STALE_MS;
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
