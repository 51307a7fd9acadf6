/** Two processes and one output_dir: the second is refused while the first lives, and takes over when it is dead. */
import { existsSync, readdirSync, readFileSync, utimesSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { type Running, runCli, writeConfig } from "./support/cli.js";
import { lastSaved, outcome } from "./support/outcome.js";
import { temporaryFolders } from "./support/temporary.js";

const folder = temporaryFolders();
const RESUME = ["--resume_from_checkpoint", "true"];
const ARGS = { max_steps: 150, save_steps: 20, save_total_limit: 2 } as const;

let config: string;
let output_dir: string;
let first: Running;

describe("a second run in the output_dir of another", () => {
  beforeEach(async () => {
    const home = folder();
    output_dir = join(home, "out");
    config = writeConfig(home, { ...ARGS, output_dir });
    first = runCli(["train", config]);
    await first.said("'epoch': 2.0"); // the 22nd update: there is a checkpoint
  });

  it.each([
    ["new", []],
    ["resuming", RESUME],
  ])("%s: is refused with the holder's pid and host, and the first ends untouched", async (_, resume) => {
    first.process.kill("SIGSTOP"); // it lives, as after Ctrl-Z, and ends when the others have had their turn
    const then = new Date(Date.now() - 600_000);
    utimesSync(join(output_dir, ".lock"), then, then); // ten minutes long
    const before = readdirSync(output_dir);
    const refused = await Promise.all([1, 2].map(() => runCli(["train", config, ...resume]).ended));
    for (const { code, output } of refused) {
      expect(code).toBe(1);
      expect(output.trim()).toBe(
        `output_dir: ${output_dir} is in use by another run (process ${first.process.pid} on ${hostname()}). Wait for it, stop it, or choose another output_dir.`,
      );
    }
    expect(readdirSync(output_dir)).toEqual(before);
    first.process.kill("SIGCONT");
    expect((await first.ended).code).toBe(0);

    const alone = join(folder(), "alone");
    expect((await runCli(["train", config, "--output_dir", alone]).ended).code).toBe(0);
    expect(outcome(output_dir, lastSaved(alone))).toEqual(outcome(alone, lastSaved(alone)));
  });

  it("resumes at once when the first was killed, and holds the folder in its turn", async () => {
    first.process.kill("SIGKILL");
    await first.ended;
    expect(existsSync(join(output_dir, ".lock"))).toBe(true); // the dead one's
    const second = runCli(["train", config, ...RESUME]);
    await second.said("Resuming from");
    second.process.kill("SIGSTOP");
    const { code, output } = await runCli(["train", config, ...RESUME]).ended;
    expect(code).toBe(1);
    expect(output).toContain(`is in use by another run (process ${second.process.pid} on ${hostname()})`);
    second.process.kill("SIGCONT");
    expect((await second.ended).code).toBe(0);
    expect(JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8")).global_step).toBe(ARGS.max_steps);
  });
});
