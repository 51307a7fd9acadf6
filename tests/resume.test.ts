/**
 * A run that was interrupted and resumed ends with the bytes of one that never was. Kills in the middle of a save are in
 * kill.test.ts, damaged checkpoints in corruption.test.ts, disks that refuse in disk.test.ts.
 */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { Trainer, type TrainerConfig, type TrainingArgumentsInput, UserError } from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyConfig } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
  if (process.platform !== "linux") return;
  expect(readFileSync("/proc/self/maps", "utf8")).not.toContain("checkpoint-"); // what it resumed from is unmapped
});

/** 6 updates an epoch, 12 in all; every one is saved. */
const RUN: TrainingArgumentsInput = {
  gradient_accumulation_steps: 2,
  num_train_epochs: 2,
  save_strategy: "steps",
  save_steps: 1,
};
const LORA = { lora: { ...TINY_LORA, lora_dropout: 0.1 } };

interface Log {
  lines: string[];
}
function trainer(
  output_dir: string,
  args: TrainingArgumentsInput = {},
  more: Partial<TrainerConfig> = LORA,
): Trainer & Log {
  const lines: string[] = [];
  const made = new Trainer(tinyConfig(output_dir, { ...RUN, ...args }, { log: (line) => lines.push(line), ...more }));
  return Object.assign(made, { lines });
}
const resumed = (output_dir: string, args: TrainingArgumentsInput = {}, more: Partial<TrainerConfig> = LORA) =>
  trainer(output_dir, { resume_from_checkpoint: true, ...args }, more);

const checkpoints = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.includes("checkpoint-"))
    .sort((a, b) => Number(a.split("-")[1]) - Number(b.split("-")[1]));
const weightsOf = (folder: string) =>
  readFileSync(
    join(folder, existsSync(join(folder, "adapter_config.json")) ? "adapter_model.safetensors" : "model.safetensors"),
  );
const curveOf = (folder: string) =>
  JSON.parse(readFileSync(join(folder, "trainer_state.json"), "utf8")).log_history.map(
    ({ step, epoch, loss, grad_norm, learning_rate }: Record<string, number>) => ({
      step,
      epoch,
      loss,
      grad_norm,
      learning_rate,
    }),
  );

/** The folder holds what the uninterrupted run's holds: result, curve, and the whole state of the last update. */
function expectSame(folder: string, whole: string, last = "checkpoint-12"): void {
  expect(curveOf(folder)).toEqual(curveOf(whole));
  expect(weightsOf(folder).equals(weightsOf(whole)), "the result").toBe(true);
  for (const name of ["optimizer.safetensors", "rng_state.safetensors"]) {
    const [actual, expected] = [folder, whole].map((path) => readFileSync(join(path, last, name)));
    expect(actual!.equals(expected!), name).toBe(true);
  }
}

/** Uninterrupted runs, made once. */
const wholes = new Map<string, Promise<string>>();
const root = mkdtempSync(join(tmpdir(), "slimtune-whole-"));
afterAll(() => rmSync(root, { recursive: true }));

function whole(kind: "lora" | "full"): Promise<string> {
  const known = wholes.get(kind);
  if (known) return known;
  const folder = join(root, kind);
  const made = trainer(folder, {}, kind === "lora" ? LORA : { lora: undefined })
    .train()
    .then(() => folder);
  wholes.set(kind, made);
  return made;
}

/** A folder with copies of some checkpoints of a whole run. */
function withCheckpoints(source: string, ...steps: number[]): string {
  const folder = newFolder();
  for (const step of steps)
    cpSync(join(source, `checkpoint-${step}`), join(folder, `checkpoint-${step}`), { recursive: true });
  return folder;
}

describe.each([
  ["LoRA with dropout", "lora"],
  ["full fine-tuning", "full"],
] as const)("%s", (_, kind) => {
  const more = kind === "lora" ? LORA : { lora: undefined };

  it.each([
    ["in the first epoch", 2],
    ["at an epoch's border", 6],
    ["in the second epoch", 9],
    ["before the last update", 11],
  ])("resumes %s", async (_name, step) => {
    const expected = await whole(kind);
    const folder = withCheckpoints(expected, step);
    const run = resumed(folder, {}, more);
    expect(await run.train()).toMatchObject({ global_step: 12, interrupted: false });
    expect(run.lines).toContain(`Resuming from ${join(folder, `checkpoint-${step}`)}: update ${step} of 12`);
    expect(run.lines.filter((line) => line.startsWith("Resuming with"))).toEqual([]);
    expectSame(folder, expected);
  });

  it("writes the result again when nothing is left to do", async () => {
    const expected = await whole(kind);
    const folder = withCheckpoints(expected, 12);
    await resumed(folder, {}, more).train();
    expect(weightsOf(folder).equals(weightsOf(expected))).toBe(true);
  });

  it("stops when asked, and goes on from there", async () => {
    const expected = await whole(kind);
    const folder = newFolder();
    const run = trainer(
      folder,
      { save_strategy: "no" },
      {
        ...more,
        callbacks: [{ onStepEnd: (_args, { global_step }) => void (global_step === 5 && run.requestStop()) }],
      },
    );
    expect(await run.train()).toMatchObject({
      global_step: 5,
      interrupted: true,
      checkpoint: join(folder, "checkpoint-5"),
    });
    expect(checkpoints(folder)).toEqual(["checkpoint-5"]);
    expect(
      ["adapter_config.json", "config.json"].some((name) => existsSync(join(folder, name))),
      "the result comes at the end alone",
    ).toBe(false);
    expect(JSON.parse(readFileSync(join(folder, "trainer_state.json"), "utf8")).global_step).toBe(5);
    await resumed(folder, {}, more).train();
    expectSame(folder, expected);
  });
});

describe("checkpoints are made", () => {
  it("at each epoch's end, and can be continued", async () => {
    const folder = newFolder();
    await trainer(folder, { save_strategy: "epoch" }).train();
    expect(checkpoints(folder)).toEqual(["checkpoint-6", "checkpoint-12"]);
    const second = withCheckpoints(folder, 6);
    await resumed(second, { save_strategy: "epoch" }).train();
    expectSame(second, folder);
    expectSame(second, await whole("lora")); // when it is saved changes nothing
  });

  it("every save_steps updates; save_total_limit keeps the newest", async () => {
    const folder = newFolder();
    await trainer(folder, { save_steps: 5, save_total_limit: 2 }).train();
    expect(checkpoints(folder)).toEqual(["checkpoint-10", "checkpoint-12"]);
    expectSame(folder, await whole("lora"));
  });

  it("never where save_strategy is no", async () => {
    const folder = newFolder();
    await trainer(folder, { save_strategy: "no", max_steps: 2 }).train();
    expect(checkpoints(folder)).toEqual([]);
  });
});

describe("a damaged checkpoint", () => {
  const damages: [string, (folder: string) => void, RegExp][] = [
    [
      "truncated",
      (folder) => truncateSync(join(folder, "optimizer.safetensors"), 1000),
      /optimizer\.safetensors has 1000 bytes instead of \d+/,
    ],
    [
      "with one bit turned",
      (folder) => {
        const path = join(folder, "adapter_model.safetensors");
        const bytes = readFileSync(path);
        bytes[bytes.length - 5]! ^= 1;
        writeFileSync(path, bytes);
      },
      /adapter_model\.safetensors has other contents than were saved/,
    ],
    [
      "without a file",
      (folder) => rmSync(join(folder, "trainer_state.json")),
      /trainer_state\.json cannot be read \(ENOENT\)/,
    ],
    ["without its manifest", (folder) => rmSync(join(folder, "manifest.json")), /manifest\.json cannot be read/],
    [
      "with half a manifest",
      (folder) => truncateSync(join(folder, "manifest.json"), 40),
      /manifest\.json cannot be read/,
    ],
  ];

  it.each(damages)("%s is refused when it was asked for by name", async (_, damage, reason) => {
    const folder = withCheckpoints(await whole("lora"), 4, 8);
    const broken = join(folder, "checkpoint-8");
    damage(broken);
    const before = readdirSync(folder);
    const error = await trainer(folder, { resume_from_checkpoint: broken })
      .train()
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain(`resume_from_checkpoint: ${broken}`);
    if (existsSync(join(broken, "manifest.json"))) expect(error.message).toMatch(reason);
    expect(readdirSync(folder)).toEqual(before);
  });

  it("never takes the place of a good one under save_total_limit", async () => {
    const folder = withCheckpoints(await whole("lora"), 4, 8);
    truncateSync(join(folder, "checkpoint-8", "optimizer.safetensors"));
    const left: string[][] = [];
    await resumed(
      folder,
      { save_total_limit: 1, max_steps: 6 },
      {
        ...LORA,
        callbacks: [
          {
            onSave: () => {
              left.push(checkpoints(folder));
            },
          },
        ],
      },
    ).train();
    expect(left).toEqual([
      ["checkpoint-5", "checkpoint-8"],
      ["checkpoint-6", "checkpoint-8"],
    ]); // the damaged one is left to the person
  });

  it("is an error when there is no other", async () => {
    const folder = withCheckpoints(await whole("lora"), 4);
    truncateSync(join(folder, "checkpoint-4", "rng_state.safetensors"), 0);
    await expect(resumed(folder).train()).rejects.toThrow(`there is no usable checkpoint in output_dir ${folder}`);
    await expect(resumed(newFolder()).train()).rejects.toThrow(
      "resume_from_checkpoint: there is no checkpoint in output_dir",
    );
  });
});

describe("another run than the checkpoint's", () => {
  const otherData = fixturePath("data/text.jsonl");
  it.each<[string, TrainingArgumentsInput, Partial<TrainerConfig>, string]>([
    ["seed", { seed: 1 }, {}, "seed was 42 and is 1"],
    ["data_seed", { data_seed: 7 }, {}, "data_seed was null and is 7"],
    ["batch size", { per_device_train_batch_size: 4 }, {}, "per_device_train_batch_size was 2 and is 4"],
    ["accumulation", { gradient_accumulation_steps: 1 }, {}, "gradient_accumulation_steps was 2 and is 1"],
    ["dataset", {}, { dataset: otherData }, "the dataset gives other tokens"],
    ["max_length", { max_length: 20 }, {}, "the dataset gives other tokens"],
    ["rank", {}, { lora: { ...LORA.lora, r: 8 } }, "its trained weights have other names, shapes, scaling or dropout"],
    ["layers", {}, { lora: { ...LORA.lora, target_modules: ["q_proj"] } }, "its trained weights have other names"],
    [
      "alpha",
      {},
      { lora: { ...LORA.lora, lora_alpha: 16 } },
      "its trained weights have other names, shapes, scaling or dropout",
    ],
    [
      "dropout",
      {},
      { lora: { ...LORA.lora, lora_dropout: 0 } },
      "its trained weights have other names, shapes, scaling or dropout",
    ],
    ["base model", {}, { model: fixturePath("tiny-llama-sharded") }, "it was made on another base model"],
    ["full fine-tuning", {}, { lora: undefined }, "its trained weights have other names"],
  ])("is refused: %s", async (_, args, more, message) => {
    const folder = withCheckpoints(await whole("lora"), 4);
    const error = await resumed(folder, args, { ...LORA, ...more })
      .train()
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain(`resume_from_checkpoint: ${join(folder, "checkpoint-4")} cannot be continued: `);
    expect(error.message).toContain(message);
    expect(readdirSync(folder)).toEqual(["checkpoint-4"]);
  });

  it("with another learning rate is told, and applied from there on", async () => {
    const folder = withCheckpoints(await whole("lora"), 4);
    const run = resumed(folder, { learning_rate: 2e-2 });
    await run.train();
    expect(run.lines.filter((line) => line.startsWith("Resuming with"))).toEqual([
      "Resuming with learning_rate 0.02 (was 0.01)",
    ]);
    const rates = curveOf(folder).map((entry: { learning_rate?: number }) => entry.learning_rate);
    for (let step = 1; step <= 12; step++) {
      expect(rates[step - 1], `update ${step}`).toBeCloseTo((step <= 4 ? 1e-2 : 2e-2) * (1 - (step - 1) / 12), 12);
    }
  });

  it("cannot go on without the optimizer's state", async () => {
    const folder = newFolder();
    await trainer(folder, { max_steps: 2, save_steps: 2, save_only_model: true }).train();
    await expect(resumed(folder, { max_steps: 4 }).train()).rejects.toThrow(/there is no usable checkpoint/);
  });
});
