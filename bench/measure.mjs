/** Runs a training as a user would and measures it from outside, the same way for every program. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const POLL_MS = 50;

/** The largest resident memory of a process so far, in bytes; undefined where the system does not tell. */
function peakMemory(pid) {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return kilobytes && Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}

/** Both trainers print a log entry with a loss at the end of each update, and none at the end of the run. */
export const isStepLine = (line) => /['"]loss['"]: /.test(line);

/**
 * Runs a program that prints one log entry per update.
 * @returns seconds from the start to the end of each update and to the exit, and the peak resident memory in bytes
 * @throws Error with the end of the output when the program fails
 */
export async function measure([command, ...args], { env = process.env, cwd } = {}) {
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  const child = spawn(command, args, { env, cwd, stdio: ["ignore", "pipe", "pipe"] });
  const stepEnds = [];
  const output = [];
  const keep = (line) => {
    output.push(line);
    if (output.length > 40) output.shift();
  };
  const lines = [child.stdout, child.stderr].map((stream) => createInterface({ input: stream }));
  lines[0].on("line", (line) => {
    if (isStepLine(line)) stepEnds.push(seconds());
    keep(line);
  });
  lines[1].on("line", keep);
  let peakBytes;
  const poll = setInterval(() => {
    peakBytes = peakMemory(child.pid) ?? peakBytes;
  }, POLL_MS);
  try {
    const status = await new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve(signal ?? code));
    });
    if (status !== 0) throw new Error(`${[command, ...args].join(" ")}\nended with ${status}:\n${output.join("\n")}`);
  } finally {
    clearInterval(poll);
  }
  return { stepEnds, exit: seconds(), peakBytes };
}
