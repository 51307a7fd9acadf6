/** A live run in another process, followed and steered through its folder alone. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import {
  type ControlAnswer,
  listCheckpoints,
  readMetrics,
  readRun,
  readTrainerState,
  type Status,
  sendControl,
} from "../src/runFolder/index.js";
import { runCli, writeConfig } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";

const folder = temporaryFolders();

/** Looks at the folder until the status is as wanted. */
async function until(output: string, wanted: (status: Status) => boolean): Promise<Status> {
  const begun = performance.now();
  while (performance.now() - begun < 60_000) {
    const status = (await readRun(output))?.status;
    if (status && wanted(status)) return status;
    await sleep(20);
  }
  throw new Error(`not in a minute: ${JSON.stringify((await readRun(output))?.status)}`);
}

async function ask(output: string, ...request: [Parameters<typeof sendControl>[1]]): Promise<ControlAnswer> {
  const id = await sendControl(output, ...request);
  const { answers } = await until(output, (status) => status.answers.some((answer) => answer.id === id));
  return answers.find((answer) => answer.id === id)!;
}

async function entriesOf(output: string) {
  const entries = [];
  for await (const entry of readMetrics(output)) entries.push(entry);
  return entries;
}

it("follows phases, pauses, saves, evaluates, changes settings, stops; a resume keeps the changes", async () => {
  const home = folder();
  const output = join(home, "out");
  const long = { output_dir: output, max_steps: 100_000, save_strategy: "no", lr_scheduler_type: "constant" } as const;
  const config = writeConfig(home, {
    ...long,
    per_device_eval_batch_size: 4,
    eval_strategy: "steps",
    eval_steps: 99_999,
  });
  const words = ["train", config, "--eval_dataset", fixturePath("data/prompt-completion.jsonl"), "--hub_token", "hf_x"];
  const run = runCli(words);
  try {
    await until(output, ({ phase, step }) => phase === "training" && step > 2);
    expect(await ask(output, { do: "pause" })).toMatchObject({ ok: true, do: "pause" });
    const paused = await until(output, ({ phase }) => phase === "paused");
    expect(await readRun(output)).toMatchObject({ phase: "paused", record: { plan: { maxSteps: 100_000 } } });
    await sleep(300);
    expect((await readRun(output))!.status!.step, "nothing is trained in a pause").toBe(paused.step);

    const saved = await ask(output, { do: "save" });
    expect(saved).toMatchObject({ ok: true, step: paused.step });
    expect((await listCheckpoints(output)).map(({ path }) => path)).toEqual([saved.message.replace(/^saved /, "")]);
    expect((await readTrainerState(output))!.global_step).toBe(paused.step);
    expect((await ask(output, { do: "evaluate" })).message).toMatch(/^eval_loss \d/);

    expect(await ask(output, { do: "set", values: { learning_rate: 0.005, max_grad_norm: 0.5 } })).toMatchObject({
      ok: true,
      message: "learning_rate 0.005 (was 0.01), max_grad_norm 0.5 (was 1)",
    });
    expect(await ask(output, { do: "set", values: { max_steps: paused.step } })).toMatchObject({ ok: false });
    expect((await ask(output, { do: "set", values: { learning_rate: -1 } })).message).toContain("learning_rate");
    appendFileSync(join(output, "control.jsonl"), "nonsense\n");
    const { answers } = await until(output, (status) => status.answers.at(-1)!.id === null);
    expect(answers.at(-1)).toMatchObject({ ok: false, message: expect.stringContaining("not valid JSON") });

    expect(await ask(output, { do: "resume" })).toMatchObject({ ok: true });
    await until(output, ({ phase, step }) => phase === "training" && step > paused.step + 2);
    expect(await ask(output, { do: "set", values: { max_steps: 50_000 } })).toMatchObject({ ok: true });
    expect(await ask(output, { do: "stop" })).toMatchObject({ ok: true });
    const { code, output: said } = await run.ended;
    expect(code, said).toBe(130);
    const after = (await readRun(output))!;
    expect(after).toMatchObject({ phase: "interrupted", status: { max_steps: 50_000, error: null } });
    expect(after.record!.changes.map(({ name, to }) => [name, to])).toEqual([
      ["learning_rate", 0.005],
      ["max_grad_norm", 0.5],
      ["max_steps", 50_000],
    ]);
    expect(after.record!.starts).toHaveLength(1);
    expect(readFileSync(join(output, "run.json"), "utf8"), "secrets are masked").not.toContain("hf_x");
    const controls = readFileSync(join(output, "metrics.jsonl"), "utf8")
      .split("\n")
      .filter((line) => line.includes('"control"'));
    expect(controls.length).toBeGreaterThanOrEqual(8);
    const rates = (await entriesOf(output))
      .filter(({ loss }) => loss !== undefined)
      .map(({ step, learning_rate }) => [step, learning_rate]);
    for (const [step, rate] of rates) expect(rate, `update ${step}`).toBe(step! <= paused.step ? 0.01 : 0.005);
    expect(existsSync(join(output, ".lock"))).toBe(false);

    // from a checkpoint before the last changes: they are made again at their updates
    const end = after.status!.step + 3;
    const again = await runCli([
      ...words,
      "--resume_from_checkpoint",
      saved.message.replace(/^saved /, ""),
      "--max_steps",
      String(end),
    ]).ended;
    expect(again.code, again.output).toBe(0);
    expect(again.output).toContain(`learning_rate is 0.005 again, as it was set after update ${paused.step}`);
    expect(again.output, "the command line replaces what was set").not.toContain("max_steps is 50000 again");
    const finished = (await readRun(output))!;
    expect(finished).toMatchObject({ phase: "finished", status: { step: end, max_steps: end } });
    expect(finished.record!.starts.map(({ step }) => step)).toEqual([0, paused.step]);
    const resumed = (await entriesOf(output)).filter(({ loss }) => loss !== undefined);
    expect(
      resumed.filter(({ step }) => step! > paused.step).every(({ learning_rate }) => learning_rate === 0.005),
    ).toBe(true);
  } finally {
    run.process.kill("SIGKILL");
  }
});

it("says of a killed run that it is dead", async () => {
  const home = folder();
  const output = join(home, "out");
  const run = runCli(["train", writeConfig(home, { output_dir: output, max_steps: 100_000, save_strategy: "no" })]);
  await until(output, ({ phase }) => phase === "training");
  expect((await readRun(output))!.phase).toBe("training");
  run.process.kill("SIGKILL");
  await run.ended;
  expect(await readRun(output)).toMatchObject({ phase: "dead", status: { phase: "training" } });
});
