/** Ctrl-C, SIGTERM and a terminal that closes, as shells and schedulers send them to `slimtune train`. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { environment, MAIN, runCli, writeConfig } from "./support/cli.js";
import { temporaryFolders } from "./support/temporary.js";

const folder = temporaryFolders();
const checkpoints = (output: string) => readdirSync(output).filter((name) => name.startsWith("checkpoint-"));

describe("a signal during training", () => {
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)(
    "%s ends the update, saves, exits with %s, and the run goes on to the same weights",
    async (signal, code) => {
      const [plain, stopped] = [folder(), folder()];
      const args = { max_steps: 60, save_strategy: "no" } as const;
      const expected = runCli(["train", writeConfig(plain, { ...args, output_dir: join(plain, "out") })]);
      const output_dir = join(stopped, "out");
      const config = writeConfig(stopped, { ...args, output_dir });
      const run = runCli(["train", config]);
      await run.said("{'loss'");
      run.process.kill(signal);
      const { code: actual, output } = await run.ended;
      expect(actual).toBe(code);
      expect(output).toContain("Finishing this step and saving a checkpoint; interrupt again to quit at once.");
      expect(checkpoints(output_dir)).toHaveLength(1);
      const [name] = checkpoints(output_dir);
      expect(output).toContain(`To go on:\n  npx slimtune train ${config} --resume`);
      // At most the update that was under way when the signal came was finished.
      const logged = output.split("Finishing this step")[0]!.match(/'loss'/g)!.length;
      expect(Number(name!.split("-")[1])).toBeLessThanOrEqual(logged + 2);

      const resumed = await runCli(["train", config, "--resume_from_checkpoint", "true"]).ended;
      expect(resumed.code, resumed.output).toBe(0);
      expect((await expected.ended).code).toBe(0);
      const weights = (of: string) => readFileSync(join(of, "out", "adapter_model.safetensors"));
      expect(weights(stopped).equals(weights(plain))).toBe(true);
    },
  );

  it("a terminal that closes takes nothing with it but itself", async () => {
    const home = folder();
    const output_dir = join(home, "out");
    const config = writeConfig(home, { output_dir, max_steps: 4000, save_strategy: "no" });
    const [told, shell] = [join(home, "code"), join(home, "run.sh")];
    writeFileSync(
      shell,
      `trap 'kill -HUP $run' HUP
      ${process.execPath} ${MAIN} train ${config} & run=$!
      wait $run; wait $run; echo $? > ${told}.partial; mv ${told}.partial ${told}`,
    );
    // On a terminal of its own, which goes when `script` is killed.
    const words = process.platform === "darwin" ? ["/dev/null", "sh", shell] : ["-c", `sh ${shell}`, "/dev/null"];
    const terminal = spawn("script", ["-q", ...words], { env: environment(), stdio: ["pipe", "pipe", "pipe"] });
    let output = "";
    terminal.stdout.on("data", (text) => {
      output += text;
      if (output.includes("· loss")) terminal.kill("SIGKILL");
    });
    while (!existsSync(told)) await sleep(20);
    expect(readFileSync(told, "utf8").trim(), output).toBe("129");
    expect(checkpoints(output_dir)).toHaveLength(1);
  });

  it("a second one quits at once", async () => {
    const home = folder();
    const dataset = join(home, "data.jsonl");
    const row = JSON.stringify({ prompt: "Count. ".repeat(8), completion: "one two three" });
    writeFileSync(dataset, `${row}\n`.repeat(4000));
    const output_dir = join(home, "out");
    const accumulation = { per_device_train_batch_size: 1, gradient_accumulation_steps: 4000 };
    const run = runCli(["train", writeConfig(home, { output_dir, ...accumulation }, dataset)]);
    await run.said("Length "); // the first update, of 4000 micro-batches, is about to begin
    await sleep(200);
    run.process.kill("SIGINT");
    await run.said("Finishing this step");
    const begun = performance.now();
    run.process.kill("SIGINT");
    expect((await run.ended).signal).toBe("SIGINT"); // for a shell: 130
    expect(performance.now() - begun).toBeLessThan(1000);
    expect(checkpoints(output_dir)).toEqual([]);
  });
});

it("a signal while the data is tokenised ends the command at once and leaves nothing", async () => {
  const home = folder();
  const dataset = join(home, "data.jsonl");
  const row = JSON.stringify({
    prompt: "Repeat it many times.",
    completion: "Bruno took two maps to Quito. ".repeat(60),
  });
  writeFileSync(dataset, `${row}\n`.repeat(6000));
  const output_dir = join(home, "out");
  const run = runCli(["train", writeConfig(home, { output_dir }, dataset)]);
  while (!existsSync(output_dir)) await sleep(5);
  await sleep(100);
  const begun = performance.now();
  run.process.kill("SIGTERM");
  const { code, output } = await run.ended;
  expect(performance.now() - begun).toBeLessThan(1500);
  expect(code).toBe(143);
  expect(output).toContain("Stopped before the first update; there was nothing to save.");
  expect(output).not.toContain("Length ");
  expect(existsSync(output_dir)).toBe(false);
});
