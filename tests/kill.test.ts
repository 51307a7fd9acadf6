/**
 * SIGKILL in the middle of saving. A run that saves after every update is killed at a chosen event in its output
 * folder (a file made, written, renamed, removed), or at a random moment, and resumed, and killed again, until it gets
 * through. After each kill every checkpoint must be whole, and the weights at the end must be those of a run that was
 * never killed. SLIMTUNE_KILLS=200 npx vitest run tests/kill.test.ts kills 200 times.
 */
import { existsSync, type FSWatcher, readdirSync, readFileSync, watch } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { listCheckpoints } from "../src/runFolder/checkpoints.js";
import { damage } from "../src/runFolder/manifest.js";
import { type Ended, type Running, runCli, writeConfig } from "./support/cli.js";
import { temporaryFolders } from "./support/temporary.js";

const KILLS = Number(process.env.SLIMTUNE_KILLS ?? 14);
const folder = temporaryFolders();
const ARGS = { max_steps: 8, save_strategy: "steps", save_steps: 1, save_total_limit: 2 } as const;

/** Calls `onEvent` for everything that happens in a folder and in the folders that checkpoints are made in. */
function watchSaves(output: string, onEvent: () => void): { close(): void } {
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

/** Kills at the k-th event of the folder, `delay` milliseconds later. */
async function killAtEvent(run: Running, output: string, k: number, delay: number): Promise<Ended> {
  let over = false;
  run.ended.then(() => {
    over = true;
  });
  while (!existsSync(output) && !over) await sleep(2);
  let events = 0;
  const watcher = watchSaves(output, () => {
    if (++events !== k) return;
    if (delay === 0) run.process.kill("SIGKILL");
    else setTimeout(() => run.process.kill("SIGKILL"), delay);
  });
  try {
    return await run.ended;
  } finally {
    watcher.close();
  }
}

async function killAtMoment(run: Running, milliseconds: number): Promise<Ended> {
  const timer = setTimeout(() => run.process.kill("SIGKILL"), milliseconds);
  const ended = await run.ended;
  clearTimeout(timer);
  return ended;
}

async function expectSound(output: string): Promise<number> {
  const checkpoints = existsSync(output) ? await listCheckpoints(output) : [];
  for (const { path } of checkpoints) expect(await damage(path), path).toBeUndefined();
  const final = join(output, "adapter_model.safetensors");
  if (existsSync(final)) await readHeader(final);
  return checkpoints.length;
}

it(`survives ${KILLS} kills`, { timeout: 60_000 + KILLS * 10_000 }, async () => {
  const home = folder();
  const plain = join(home, "plain");
  const config = writeConfig(home, { ...ARGS, output_dir: plain });
  const expected = await runCli(["train", config]).ended;
  expect(expected.code, expected.output).toBe(0);
  const weights = (output: string) => readFileSync(join(output, "adapter_model.safetensors"));

  let kills = 0;
  for (let chain = 0; kills < KILLS; chain++) {
    const output = join(home, `killed-${chain}`);
    let saved = 0;
    for (let finished = false; !finished; ) {
      const resume = saved > 0 ? ["--resume_from_checkpoint", "true"] : [];
      const run = runCli(["train", config, "--output_dir", output, ...resume]);
      let ended: Ended;
      // A save makes about 60 events; what is due is spread over the first two, and over the end of a run.
      if (kills >= KILLS) ended = await run.ended;
      else if (kills % 5 === 4) ended = await killAtMoment(run, 200 + Math.random() * 1500);
      else
        ended = await killAtEvent(
          run,
          output,
          1 + ((kills * 37 + chain) % 130),
          kills % 3 === 0 ? 0 : Math.random() * 4,
        );
      const sound = await expectSound(output);
      expect(sound, "no checkpoint is lost").toBeGreaterThanOrEqual(Math.min(saved, 1));
      saved = sound;
      if (ended.signal === "SIGKILL") kills++;
      else expect(ended.code, ended.output).toBe(0);
      finished = ended.code === 0;
    }
    expect(weights(output).equals(weights(plain)), `chain ${chain}`).toBe(true);
    const left = readdirSync(output).filter((name) => name.startsWith("."));
    expect(left, "nothing is left aside").toEqual([]);
    const names = (await listCheckpoints(output)).map(({ step }) => step);
    expect(names).toEqual([7, 8]);
  }
});
