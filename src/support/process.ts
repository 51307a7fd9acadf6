/** Which process on which machine: how one process tells whether another one still lives. */
import { execFileSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** A process, told apart from a later one that was given the same number. */
export interface ProcessId {
  pid: number;
  /** The machine, and on Linux the namespace in which the pid counts (a container has its own). */
  host: string;
  /** When it started, as the system says it; "" where the system does not say. */
  started: string;
}

/** This machine's name, in which pids count. */
function hostName(): string {
  try {
    return `${hostname()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

let me: ProcessId | undefined;

export function thisProcess(): ProcessId {
  me ??= { pid: process.pid, host: hostName(), started: startOf(process.pid) };
  return me;
}

/** Whether the process lives; undefined for one on another machine, which cannot be asked. */
export function isAlive({ pid, host, started }: ProcessId): boolean | undefined {
  if (host !== hostName()) return undefined;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return started === "" || startOf(pid) === started;
}

/** As a person reads it. */
export const describeProcess = ({ pid, host }: Pick<ProcessId, "pid" | "host">) =>
  `process ${pid} on ${host.split(" ")[0]}`;

function startOf(pid: number): string {
  try {
    if (process.platform !== "linux") {
      return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    }
    // The program's name, in parentheses, may hold anything; the start (in ticks since boot) is the 20th field after it.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    return "";
  }
}
