import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { fieldNames } from "../arguments/index.js";
import { runCli } from "./program.js";

let stdout = "";
let stderr = "";

beforeEach(() => {
  stdout = "";
  stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += text;
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = 0;
});

describe("slimtune", () => {
  it("lists its commands", async () => {
    await runCli(["--help"]);
    for (const command of ["train", "eval", "preview", "generate", "setup", "doctor", "schema"])
      expect(stdout).toContain(`  ${command}`);
    expect(process.exitCode).toBe(0);
  });

  it("train --help names every argument", async () => {
    await runCli(["train", "--help"]);
    for (const name of fieldNames) expect(stdout).toContain(name);
    expect(stdout).toMatch(/--learning_rate +The peak of the schedule. \(a number of at least 0; default:\s+0.00005\)/);
    expect(stdout).toMatch(
      /--optim +The optimizer\. [^(]*\(adamw_torch, adamw_torch_fused, adafactor,[^;]+ paged_adamw_32bit,[^;]+;\s+default:/,
    );
    expect(process.exitCode).toBe(0);
  });

  it("schema prints JSON", async () => {
    await runCli(["schema"]);
    expect(JSON.parse(stdout).title).toBe("slimtune config file");
  });

  it.each<[string[], RegExp]>([
    [
      ["train"],
      /^nothing to train: give a config file \(npx slimtune train config.yaml\), or --model FOLDER --dataset FILE\n$/,
    ],
    [["train", "none.yaml"], /^none.yaml: there is no such config file\n$/],
    [["train", "none.yaml", "--max_step", "3"], /^unknown option --max_step \(did you mean "max_steps"\?\).*\n$/],
    [["generate"], /^nothing to load: name a run's folder, an adapter, a model or a config file.*runs\/1\n$/],
    [["generate", "--model", "m", "--top_p", "2"], /--top_p <x>.*must be a number above 0 and at most 1/],
    [["generate", "--model", "m", "--top_k", "1.5"], /--top_k <n>.*must be a whole number at least 0/],
    [["generate", "--model", "./none", "--prompt", "x"], /^--model: no such folder: .*none\n$/],
    [["generate", "--model", "m", "--system", "x", "--raw"], /^--system needs the chat template/],
    [["trian"], /unknown command 'trian'[\s\S]*Did you mean train\?/],
  ])("%j fails with one message", async (words, message) => {
    await runCli(words);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain("    at ");
    expect(stdout).toBe("");
    expect(process.exitCode).toBe(1);
  });

  it("shows the stack of a user's mistake with SLIMTUNE_DEBUG=1", async () => {
    vi.stubEnv("SLIMTUNE_DEBUG", "1");
    await runCli(["train", "none.yaml"]);
    expect(stderr).toContain("    at ");
  });

  it("names file and line of a mistake in the config", async () => {
    const folder = mkdtempSync(join(tmpdir(), "slimtune-cli-"));
    const file = join(folder, "config.yaml");
    writeFileSync(file, "model: org/model\ndataset: org/data\ntraining_args:\n  lerning_rate: 1\n");
    await runCli(["train", file]);
    rmSync(folder, { recursive: true });
    expect(stderr).toBe(`${file}:4: training_args.lerning_rate: unknown argument (did you mean "learning_rate"?)\n`);
    expect(process.exitCode).toBe(1);
  });
});
