/**
 * SIGKILL at any moment. Random runs are killed at a chosen event in their output folder, or at a random moment, and
 * resumed, and killed again, until they get through; now and then they are stopped in between (so that a checkpoint is
 * saved once more), or resumed from an older checkpoint than the newest. After each kill every checkpoint must be whole,
 * and at the end result, state, log and checkpoint those of a run that was never killed.
 * SLIMTUNE_KILLS=1000 npx vitest run tests/kill.test.ts kills 1000 times.
 */
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { Trainer } from "../src/index.js";
import { listCheckpoints } from "../src/runFolder/checkpoints.js";
import { damage } from "../src/runFolder/manifest.js";
import { type Ended, runCli } from "./support/cli.js";
import { killAtMoment, signalAtEvent, watchFolder } from "./support/killing.js";
import { lastSaved, outcome } from "./support/outcome.js";
import { type RandomRun, randomRun } from "./support/randomRun.js";
import { temporaryFolders } from "./support/temporary.js";

const KILLS = Number(process.env.SLIMTUNE_KILLS ?? 40);
const SEED = Number(process.env.SLIMTUNE_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** A run that has been killed so often is left to its end. */
const MOST_KILLS = 8;
const folder = temporaryFolders();

const chance = (share: number) => Math.random() < share;
const upTo = (most: number) => 1 + Math.floor(Math.random() * most);
const checkpointNames = (output: string) => readdirSync(output).filter((name) => name.startsWith("checkpoint-"));

/** Runs that save; one without would start again from the beginning each time. */
const killedRun = randomRun.map(({ args, more }) => ({
  args: { ...args, ...(args.save_strategy === "no" ? { save_strategy: "steps", save_steps: 1 } : {}) },
  more,
})) as fc.Arbitrary<RandomRun>;

interface Whole {
  saved: number | undefined;
  outcome: ReturnType<typeof outcome>;
  checkpoints: string[];
  /** Of the folder, as far as they could be told apart. */
  events: number;
}

/** The run that is never killed. */
async function whole({ args, more }: RandomRun, output_dir: string): Promise<Whole> {
  let events = 0;
  const trainer = new Trainer({
    ...more,
    log: () => {},
    callbacks: [
      {
        onInitEnd: () => {
          watcher = watchFolder(output_dir, () => events++);
        },
      },
    ],
    training_args: { ...args, output_dir },
  });
  let watcher: ReturnType<typeof watchFolder> | undefined;
  await trainer.train();
  watcher?.close();
  const saved = lastSaved(output_dir);
  return { saved, outcome: outcome(output_dir, saved), checkpoints: checkpointNames(output_dir), events };
}

async function expectSound(output: string): Promise<number> {
  const checkpoints = existsSync(output) ? await listCheckpoints(output) : [];
  for (const { path } of checkpoints) expect(await damage(path), path).toBeUndefined();
  const final = join(output, "adapter_model.safetensors");
  if (existsSync(final)) await readHeader(final);
  return checkpoints.length;
}

/** Where the next start goes on. */
async function resumption(output: string): Promise<string[]> {
  const checkpoints = existsSync(output) ? await listCheckpoints(output) : [];
  if (checkpoints.length === 0) return [];
  const older = checkpoints[upTo(checkpoints.length) - 1]!.path;
  return ["--resume_from_checkpoint", chance(0.2) ? older : "true"];
}

interface Kills {
  all: number;
  /** With a file or a checkpoint half written. */
  inWriting: number;
}

/** What a killed process was still writing, or had not yet removed. */
const unfinished = (output: string) =>
  existsSync(output) ? readdirSync(output).filter((name) => /^\.checkpoint-|^\..*\.tmp$|\.partial$/.test(name)) : [];

/** Kills a run until it gets through; gives how often. */
async function killed(run: RandomRun, home: string, expected: Whole, most: number): Promise<Kills> {
  const output = join(home, "killed");
  const config = join(home, "config.json");
  writeFileSync(config, JSON.stringify({ ...run.more, training_args: { ...run.args, output_dir: output } }));
  const story: string[] = [];
  const kills: Kills = { all: 0, inWriting: 0 };
  let [stops, saved] = [0, 0];
  for (;;) {
    const resume = await resumption(output);
    const start = runCli(["train", config, ...resume]);
    story.push(`start ${resume.length > 0 ? basename(resume[1]!) : ""}`);
    let ended: Ended;
    if (kills.all >= most) ended = await start.ended;
    else if (chance(0.2)) ended = await killAtMoment(start, 200 + Math.random() * 1500);
    else {
      const signal = chance(0.15) ? "SIGTERM" : "SIGKILL";
      // Half of them at the start, where a resume tidies up and a stopped run makes its checkpoint once more.
      const k = upTo(chance(0.5) ? 40 : expected.events);
      ended = await signalAtEvent(start, output, { signal, k, delay: chance(0.3) ? 0 : Math.random() * 4 });
      story.push(`${signal} at event ${k}`);
    }
    story.push(`ended ${ended.signal ?? ended.code}`);
    const because = `${story.join(", ")} of ${JSON.stringify(run)}\n${ended.output}`;
    if (ended.signal === "SIGKILL") {
      kills.all++;
      if (unfinished(output).length > 0) kills.inWriting++;
    } else if (ended.code === 143) stops++;
    else if (/is not empty/.test(ended.output) && saved === 0) rmSync(output, { recursive: true });
    else expect(ended.code, because).toBe(0);
    const sound = await expectSound(output);
    expect(sound, `a checkpoint is lost: ${because}`).toBeGreaterThanOrEqual(Math.min(saved, 1));
    saved = sound;
    if (ended.code !== 0) continue;
    expect(outcome(output, expected.saved), because).toEqual(expected.outcome);
    if (stops === 0) expect(checkpointNames(output).sort(), because).toEqual(expected.checkpoints.sort());
    expect(unfinished(output), `nothing is left aside: ${because}`).toEqual([]);
    expect(readdirSync(output), because).not.toContain(".lock");
    return kills;
  }
}

it(`survives ${KILLS} kills (SLIMTUNE_SEED=${SEED})`, { timeout: 120_000 + KILLS * 10_000 }, async () => {
  const runs = fc.sample(killedRun, { seed: SEED, numRuns: 4 * KILLS });
  const kills: Kills = { all: 0, inWriting: 0 };
  for (const run of runs) {
    if (kills.all >= KILLS) break;
    const home = join(folder(), "run");
    const expected = await whole(run, join(home, "whole"));
    const { all, inWriting } = await killed(run, home, expected, Math.min(MOST_KILLS, KILLS - kills.all));
    kills.all += all;
    kills.inWriting += inWriting;
    rmSync(home, { recursive: true });
  }
  expect(kills.all).toBe(KILLS);
  expect(kills.inWriting, "kills in the middle of a save").toBeGreaterThan(KILLS / 10);
});
