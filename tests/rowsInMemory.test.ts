/** Rows that a program gives: every shape and source trains as the same rows in a file do. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type DatasetInput,
  type PromptCompletionRow,
  type RunRecord,
  readRun,
  Trainer,
  type TrainerConfig,
  type TrainingArgumentsInput,
  UserError,
} from "../src/index.js";
import { fixturePath } from "./support/goldens.js";
import { tinyConfig } from "./support/tinyRun.js";

const FILE = fixturePath("data/prompt-completion.jsonl");
const ROWS: PromptCompletionRow[] = readFileSync(FILE, "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-rows-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const CONSTANT = { lr_scheduler_type: "constant" } as const;
let runs = 0;
async function losses(dataset: DatasetInput, args: TrainingArgumentsInput = {}, more: Partial<TrainerConfig> = {}) {
  const output_dir = join(folder, `run-${runs++}`);
  using trainer = new Trainer(tinyConfig(output_dir, { max_steps: 3, ...args }, { dataset, ...more }));
  await trainer.train();
  return trainer.state.log_history.flatMap(({ loss }) => loss ?? []);
}

async function failure(dataset: unknown, more: Partial<TrainerConfig> = {}): Promise<UserError> {
  const error = await losses(dataset as DatasetInput, {}, more).catch((reason) => reason);
  expect(error).toBeInstanceOf(UserError);
  return error;
}

async function* stream(rows: readonly PromptCompletionRow[]) {
  for (const row of rows) yield row;
}

describe("rows in memory", () => {
  it("train as those of a file do, from any source", async () => {
    const expected = await losses(FILE);
    expect(expected).toHaveLength(3);
    const renamed = ROWS.map(({ prompt, completion }) => ({ question: prompt, answer: completion }));
    const sources: DatasetInput[] = [
      ROWS,
      new Set(ROWS),
      stream(ROWS),
      () => ROWS,
      () => stream(ROWS),
      async () => stream(ROWS),
      { rows: ROWS },
      { rows: renamed, columns: { prompt: "question", completion: "answer" } },
      [{ rows: ROWS.slice(0, 9) }, { rows: stream(ROWS.slice(9)) }],
    ];
    for (const source of sources) expect(await losses(source)).toEqual(expected);
  });

  it("are tokenised by several threads, and name the bad one", async () => {
    const many = Array.from({ length: 20 }, () => ROWS).flat();
    expect(await losses(many, { dataloader_num_workers: 2 })).toHaveLength(3);
    const bad = many.map((row, i) => (i === 321 ? { ...row, completion: 7 } : row));
    const error = await failure(bad);
    expect(error.message).toBe('dataset[321]: "completion" must be a text, but it is the number 7');
    expect(error).toMatchObject({ code: "invalid_data", path: "dataset[321]" });
    expect((await failure([{ rows: ROWS }, { rows: bad }])).path).toBe("dataset[1].rows[321]");
  });

  it("say what is no row, no source, and what no thread can be sent", async () => {
    expect((await failure([...ROWS, null])).message).toMatch(
      /^dataset\[21\]: a row must be a JSON object .* this is null/,
    );
    expect((await failure([])).message).toMatch(/^dataset is empty/);
    expect((await failure(() => 5)).message).toMatch(/^dataset: the function gave number/);
    expect((await failure([{ question: "x" }])).message).toMatch(
      /^dataset\[0\]: cannot tell what to learn from the columns question/,
    );
    const sent = [...ROWS, { ...ROWS[0], more: () => {} }];
    expect((await failure(sent)).message).toMatch(/^dataset\[21\]: the row cannot be given to another thread: /);
    expect((await failure({ rows: ROWS, split: "train" })).message).toMatch(/^dataset\.split: goes with files/);
  });

  it("pass on what their source throws", async () => {
    const broken = function* () {
      yield ROWS[0]!;
      throw new RangeError("mine");
    };
    await expect(losses(broken)).rejects.toThrow(new RangeError("mine"));
  });

  it("end with the signal, though their source does not", async () => {
    let closed = false;
    const endless = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => {}),
        return: async () => {
          closed = true;
          return { value: undefined, done: true as const };
        },
      }),
    };
    using trainer = new Trainer(tinyConfig(join(folder, "out"), {}, { dataset: endless }));
    const signal = AbortSignal.timeout(300);
    const error = await trainer.train({ signal }).catch((reason) => reason);
    expect(error).toBe(signal.reason);
    expect(closed).toBe(true);
  });

  it("are the same run after a resume, or none", async () => {
    const output_dir = join(folder, "out");
    const run = async (dataset: DatasetInput, args: TrainingArgumentsInput) => {
      const steps = { ...CONSTANT, save_strategy: "steps", save_steps: 2, ...args } as const;
      using trainer = new Trainer(tinyConfig(output_dir, steps, { dataset }));
      await trainer.train();
      return trainer.state.log_history.flatMap(({ loss }) => loss ?? []);
    };
    const whole = await losses(ROWS, { ...CONSTANT, max_steps: 4 });
    await run(ROWS, { max_steps: 2 });
    const { config } = (await readRun(output_dir))!.record as RunRecord;
    expect(config.dataset).toBe("21 rows in memory");
    const changed = ROWS.map((row, i) => (i === 20 ? { ...row, completion: "another" } : row));
    const resumed = { max_steps: 4, resume_from_checkpoint: true };
    await expect(run(changed, resumed)).rejects.toThrow(/the dataset gives other tokens/);
    expect(await run(stream(ROWS), resumed)).toEqual(whole);
  });
});

describe("eval_split, max_samples and slices", () => {
  it("take the rows that Python's datasets takes", async () => {
    const seen: string[] = [];
    using trainer = new Trainer({
      ...tinyConfig(join(folder, "out"), { max_steps: 1, eval_strategy: "steps" }),
      eval_split: 0.2,
      computeMetrics: async ({ examples, decode }) => {
        for (const { inputIds } of examples) seen.push(await decode(inputIds));
        return {};
      },
    });
    await trainer.train();
    // train_test_split(0.2, seed=42) of 21 rows
    const held = [16, 10, 15, 20, 12].map((index) => ROWS[index]!);
    expect(seen.map((text) => held.findIndex(({ prompt }) => text.includes(prompt)))).toEqual(held.map((_, i) => i));
  });

  it("cut each dataset", async () => {
    const first = await losses(ROWS.slice(0, 8));
    expect(await losses(FILE, {}, { max_samples: 8 })).toEqual(first);
    expect(await losses({ path: FILE, max_samples: 8 })).toEqual(first);
    expect(await losses(stream(ROWS), {}, { max_samples: 8 })).toEqual(first);
    expect(await losses({ path: FILE, split: "train[:38%]" })).toEqual(first);
    expect(await losses({ path: FILE, split: "train[:4]+train[4:8]" })).toEqual(first);
  });

  it("refuse what leaves nothing, or says two things", async () => {
    expect((await failure(ROWS, { eval_split: 21 })).message).toMatch(/^eval_split: 21 holds out 21 of the 21 rows/);
    expect((await failure(ROWS, { eval_split: 1.5 })).message).toMatch(/^eval_split: expected a share/);
    expect((await failure(ROWS, { eval_split: 0.5, eval_dataset: FILE })).message).toMatch(
      /eval_split and eval_dataset/,
    );
    expect((await failure({ path: FILE, split: "train[30:]" })).message).toMatch(/no rows within split: train\[30:\]/);
    expect((await failure({ path: FILE, split: "test[:3]" })).message).toMatch(/this is one file/);
  });
});
