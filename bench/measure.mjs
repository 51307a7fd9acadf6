/** Runs a training as a user would and measures it from outside, the same way for every program. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const POLL_MS = 50;

/**
 * A process's memory in bytes: the largest that was resident so far, which counts mapped files (a model's, a page file)
 * as far as they are in memory, and what of its own is resident now. Undefined where the system does not tell.
 */
function memoryOf(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const bytes = (field) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)[1]) * 1024;
    return { peak: bytes("VmHWM"), anonymous: bytes("RssAnon") };
  } catch {
    return undefined;
  }
}

/** Both trainers print a log entry with a loss at the end of each update, and none at the end of the run. */
export const isStepLine = (line) => /['"]loss['"]: /.test(line);

/**
 * Runs a program that prints one log entry per update.
 * @returns seconds from the start to the end of each update and to the exit; the peak of the resident memory in bytes,
 *   and of the part that is no mapped file (sampled 20 times a second)
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
  let peakAnonymousBytes;
  const poll = setInterval(() => {
    const memory = memoryOf(child.pid);
    if (!memory) return;
    peakBytes = memory.peak;
    peakAnonymousBytes = Math.max(peakAnonymousBytes ?? 0, memory.anonymous);
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
  return { stepEnds, exit: seconds(), peakBytes, peakAnonymousBytes };
}
