/** SIGKILL and SIGTERM at chosen moments of a command's work in its output folder. */
import { existsSync, type FSWatcher, watch } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Ended, Running } from "./cli.js";

/** Calls `onEvent` for everything that happens in a folder and in the folders that checkpoints are made in. */
export function watchFolder(output: string, onEvent: () => void): { close(): void } {
  const watchers: FSWatcher[] = [];
  const inside = new Set<string>();
  const look = (path: string, listener: (name: string | null) => void) => {
    try {
      watchers.push(watch(path, (_, name) => listener(name)).on("error", () => {}));
    } catch {
      // it is gone already
    }
  };
  look(output, (name) => {
    onEvent();
    if (!name?.startsWith(".checkpoint-") || inside.has(name)) return;
    inside.add(name);
    look(join(output, name), onEvent);
  });
  return {
    close() {
      for (const watcher of watchers) watcher.close();
    },
  };
}

/** Sends the signal at the k-th event of the folder (a file made, written, renamed, removed), `delay` milliseconds later. */
export async function signalAtEvent(
  run: Running,
  output: string,
  { signal, k, delay }: { signal: NodeJS.Signals; k: number; delay: number },
): Promise<Ended> {
  let over = false;
  run.ended.then(() => {
    over = true;
  });
  while (!existsSync(output) && !over) await sleep(2);
  let events = 0;
  const watcher = watchFolder(output, () => {
    if (++events !== k) return;
    if (delay === 0) run.process.kill(signal);
    else setTimeout(() => run.process.kill(signal), delay);
  });
  try {
    return await run.ended;
  } finally {
    watcher.close();
  }
}

export async function killAtMoment(run: Running, milliseconds: number): Promise<Ended> {
  const timer = setTimeout(() => run.process.kill("SIGKILL"), milliseconds);
  const ended = await run.ended;
  clearTimeout(timer);
  return ended;
}
