/** A disk that refuses in the middle of a run: a clear error, and the last good checkpoint is kept. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { TrainerState } from "../src/index.js";
import { listCheckpoints } from "../src/runFolder/checkpoints.js";
import { damage } from "../src/runFolder/manifest.js";
import { runCli, writeConfig } from "./support/cli.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const folder = temporaryFolders();

/** Whether file sizes of a running process can be limited (Linux), which makes every larger write fail. */
function canLimit(): boolean {
  try {
    execFileSync("prlimit", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

async function expectSound(output: string, atLeast: number): Promise<void> {
  const checkpoints = await listCheckpoints(output);
  expect(checkpoints.length).toBeGreaterThanOrEqual(atLeast);
  for (const { path } of checkpoints) expect(await damage(path), path).toBeUndefined();
  // a folder that was moved away under a run keeps its lock, which died with the run
  expect(readdirSync(output).filter((name) => name.startsWith(".") && name !== ".lock")).toEqual([]);
}

it.skipIf(!canLimit())("a write that fails ends the run; it resumes when there is room again", async () => {
  const home = folder();
  const output_dir = join(home, "out");
  const config = writeConfig(home, { output_dir, max_steps: 400, save_steps: 1, save_total_limit: 2 });
  const run = runCli(["train", config]);
  await run.said("'epoch': 0.2727"); // the third update
  execFileSync("prlimit", ["--pid", String(run.process.pid), "--fsize=20000"]);
  const { code, output } = await run.ended;
  expect(code).toBe(1);
  expect(output).toMatch(
    /output_dir: checkpoint-\d+ cannot be saved in .*EFBIG.*Earlier checkpoints are untouched: continue from checkpoint-\d+/,
  );
  expect(output).not.toContain("    at "); // no stack: it is no fault of slimtune
  await expectSound(output_dir, 2);
  const [, newest] = await listCheckpoints(output_dir);
  const more = ["--resume_from_checkpoint", "true", "--max_steps", String(newest!.step + 2)];
  const resumed = await runCli(["train", config, ...more]).ended;
  expect(resumed.code, resumed.output).toBe(0);
});

describe("output_dir", () => {
  const at = (step: number, work: () => void) => ({
    onStepBegin: (_: unknown, state: TrainerState) => {
      if (state.global_step === step) work();
    },
  });

  it("that vanishes is not made anew; what it holds stays good", async () => {
    const home = folder();
    const [output, elsewhere] = [join(home, "out"), join(home, "unmounted")];
    const callbacks = [at(3, () => renameSync(output, elsewhere))];
    const run = tinyTrainer(output, { max_steps: 6, save_strategy: "steps", save_steps: 2 }, { callbacks });
    await expect(run.train()).rejects.toThrow(
      /output_dir: checkpoint-4 cannot be saved in .*no such file or directory/,
    );
    expect(existsSync(output)).toBe(false);
    await expectSound(elsewhere, 1);
  });

  it("that becomes a file is a clear error", async () => {
    const output = join(folder(), "out");
    const replace = () => {
      rmSync(output, { recursive: true });
      writeFileSync(output, "");
    };
    const run = tinyTrainer(
      output,
      { max_steps: 3, save_strategy: "steps", save_steps: 2 },
      { callbacks: [at(1, replace)] },
    );
    await expect(run.train()).rejects.toThrow(/output_dir: checkpoint-2 cannot be saved in .*not a directory/);
  });

  it("that refuses the final model keeps the checkpoints", async () => {
    const output = folder();
    const block = () => mkdirSync(join(output, "adapter_config.json"));
    const callbacks = [at(3, block)];
    const run = tinyTrainer(output, { max_steps: 4, save_strategy: "steps", save_steps: 2 }, { callbacks });
    await expect(run.train()).rejects.toThrow(
      /output_dir: the model cannot be written to .*--resume_from_checkpoint true/,
    );
    await expectSound(output, 2);
    rmSync(join(output, "adapter_config.json"), { recursive: true });
    const again = { max_steps: 4, save_strategy: "steps", save_steps: 2, resume_from_checkpoint: true } as const;
    await tinyTrainer(output, again).train();
    expect(readdirSync(output)).toContain("trainer_state.json");
  });
});
