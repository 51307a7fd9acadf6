/** Outputs that cannot be written: a reader that leaves early, a full disk, a terminal that closes. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, openSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { environment, MAIN, writeConfig } from "./support/cli.js";
import { temporaryFolders } from "./support/temporary.js";

const folder = temporaryFolders();
const FULL = "/dev/full";

interface Wired {
  /** null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

/** "read": all of it; "leave": the reader goes after the first bytes; "full": a disk without room. */
type Wire = "read" | "leave" | "full";

/** Runs the command with its outputs wired so. */
function run(words: string[], wires: { stdout?: Wire; stderr?: Wire }): Promise<Wired> {
  const { stdout = "read", stderr = "read" } = wires;
  const end = (wire: Wire) => (wire === "full" ? openSync(FULL, "w") : "pipe");
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...words], {
    env: environment(),
    stdio: ["ignore", end(stdout), end(stderr)],
  });
  const read = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      read[name] += text;
      if (wires[name] === "leave") child[name]!.destroy();
    });
  }
  return new Promise((resolve) => {
    child.on("close", (code) => resolve({ code, ...read }));
  });
}

const trained = (output: string) =>
  existsSync(join(output, "adapter_model.safetensors")) && readdirSync(output).includes("checkpoint-6");

describe("train goes on without an output, and says so at the end", () => {
  const config = () => {
    const home = folder();
    const output_dir = join(home, "out");
    return { output_dir, path: writeConfig(home, { output_dir, max_steps: 6 }) };
  };

  it.each([
    ["leave", "EPIPE"],
    ["full", "ENOSPC"],
  ] as const)("stdout: %s", async (wire, why) => {
    const { output_dir, path } = config();
    const { code, stderr } = await run(["train", path], { stdout: wire });
    expect(stderr).toContain(`stdout could not be written (${why}); training went on without it.\n`);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(code).toBe(74);
    expect(trained(output_dir)).toBe(true);
  });

  it.each([
    ["leave", "EPIPE"],
    ["full", "ENOSPC"],
  ] as const)("stderr: %s", async (wire, why) => {
    const { output_dir, path } = config();
    const { code, stdout } = await run(["train", path], { stderr: wire });
    expect(stdout.match(/'loss'/g)).toHaveLength(6);
    expect(stdout).toContain(`stderr could not be written (${why}); training went on without it.\n`);
    expect(code).toBe(74);
    expect(trained(output_dir)).toBe(true);
  });

  it("both", async () => {
    const { output_dir, path } = config();
    expect(await run(["train", path], { stdout: "full", stderr: "full" })).toMatchObject({ code: 74 });
    expect(trained(output_dir)).toBe(true);
  });

  it("a failure keeps its exit code, and is told on the output that is left", async () => {
    const { path } = config();
    const { code, stdout } = await run(["train", path, "--lora.r", "0"], { stderr: "full" });
    expect(stdout).toMatch(/lora\.r/);
    expect(code).toBe(1);
  });
});

describe("another command", () => {
  const data = () => writeConfig(folder(), {});

  it.each([["schema"], ["preview"]])("%s: a reader that leaves early ends it quietly", async (command) => {
    const words = command === "preview" ? [command, data(), "--rows", "20"] : [command];
    expect(await run(words, { stdout: "leave" })).toMatchObject({ code: 0, stderr: "" });
  });

  it.each([["schema"], ["preview"]])("%s: a full disk is one clear error", async (command) => {
    const words = command === "preview" ? [command, data()] : [command];
    const { code, stderr } = await run(words, { stdout: "full" });
    expect(stderr).toMatch(/^stdout cannot be written: .*ENOSPC.*\n$/);
    expect(code).toBe(1);
  });
});
