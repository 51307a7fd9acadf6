/** Limits of the address space (`ulimit -v`), under which C++ and V8 end the process where they find too little. */
import { readFileSync } from "node:fs";
import { UserError } from "./errors.js";

/**
 * @param what needs the bytes
 * @throws UserError where the limit leaves fewer
 */
export function needAddressSpace(what: string, bytes: number): void {
  let limits: string, status: string;
  try {
    [limits, status] = [readFileSync("/proc/self/limits", "utf8"), readFileSync("/proc/self/status", "utf8")];
  } catch {
    return; // not Linux
  }
  const limit = Number(/^Max address space +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  const left = limit - Number(/^VmSize:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  if (left >= bytes) return;
  const mebibytes = (count: number) => `${Math.round(count / 2 ** 20)} MiB`;
  throw new UserError(
    `${what} needs ${mebibytes(bytes)} of address space, and the limit of ${mebibytes(limit)} leaves ${mebibytes(left)}: raise it, with ulimit -v.`,
  );
}
