/** What would spoil a run is caught: numbers that are none, data that teaches the wrong thing, adapters without gradient. */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { type HealthConfig, Trainer, type TrainerConfig, type TrainingArgumentsInput } from "../src/index.js";
import { seal } from "../src/runFolder/manifest.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyConfig } from "./support/tinyRun.js";

const folder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush().catch(() => {}); // a failure of the run was reported by it already
  expect(liveTensors()).toBe(0);
});

/** A copy of tiny-llama with a change to its weights. */
async function changedModel(change: (weight: Float32Array, name: string) => void): Promise<string> {
  const model = folder();
  cpSync(fixturePath("tiny-llama"), model, { recursive: true });
  const path = join(model, "model.safetensors");
  const bytes = readFileSync(path);
  for (const [name, { begin, end }] of (await readHeader(path)).tensors) {
    const weight = new Float32Array(new Uint8Array(bytes.subarray(begin, end)).buffer);
    change(weight, name);
    bytes.set(new Uint8Array(weight.buffer), begin);
  }
  writeFileSync(path, bytes);
  return model;
}

/** A character that stands in no other example: its token's embedding is NaN, and so is a batch that holds it. */
const POISON = "~";

/** tiny-llama with that embedding, and a dataset with the poison in the rows of these numbers (from 0). */
async function poisoned(rows: number[]): Promise<Pick<TrainerConfig, "model" | "dataset">> {
  const { vocab } = JSON.parse(readFileSync(join(fixturePath("tiny-llama"), "tokenizer.json"), "utf8")).model;
  const id: number = vocab[POISON];
  expect(id).toBeGreaterThan(0);
  const model = await changedModel((weight, name) => {
    if (name !== "model.embed_tokens.weight") return;
    const width =
      weight.length / JSON.parse(readFileSync(join(fixturePath("tiny-llama"), "config.json"), "utf8")).vocab_size;
    weight.fill(Number.NaN, id * width, (id + 1) * width);
  });
  const dataset = join(folder(), "data.jsonl");
  const lines = Array.from({ length: 12 }, (_, i) => {
    const prompt = rows.includes(i) ? `Say ${POISON} now.` : `Count to ${i}.`;
    return JSON.stringify({ prompt, completion: `Done ${i} times.` });
  });
  writeFileSync(dataset, `${lines.join("\n")}\n`);
  return { model, dataset };
}

interface Outcome {
  output_dir: string;
  log: string[];
  history: Record<string, number>[];
  incidents: Record<string, unknown>[];
  error?: Error;
}

async function run(
  source: Pick<TrainerConfig, "model" | "dataset">,
  health: HealthConfig | undefined,
  args: TrainingArgumentsInput = {},
  output_dir = folder(),
): Promise<Outcome> {
  const log: string[] = [];
  const more = { ...source, health, log: (line: string) => void log.push(line) };
  const order = { train_sampling_strategy: "sequential", per_device_train_batch_size: 1, num_train_epochs: 1 } as const;
  let error: Error | undefined;
  await new Trainer(tinyConfig(output_dir, { ...order, ...args }, more)).train().catch((e) => {
    error = e;
  });
  const lines = (name: string) =>
    existsSync(join(output_dir, name))
      ? readFileSync(join(output_dir, name), "utf8")
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line))
      : [];
  return { output_dir, log, error, history: lines("metrics.jsonl"), incidents: lines("health.jsonl") };
}

async function weightsOf(output: string): Promise<Float32Array[]> {
  const path = join(output, "adapter_model.safetensors");
  const bytes = readFileSync(path);
  return [...(await readHeader(path)).tensors.values()].map(
    ({ begin, end }) => new Float32Array(new Uint8Array(bytes.subarray(begin, end)).buffer),
  );
}

async function expectFinite(output: string): Promise<void> {
  for (const weight of await weightsOf(output)) expect(weight.every(Number.isFinite)).toBe(true);
}

describe("weights that a step makes no numbers", () => {
  const SOURCE = { model: fixturePath("tiny-llama"), dataset: fixturePath("data/prompt-completion.jsonl") };
  const saved = { save_strategy: "steps", save_steps: 1 } as const;

  it.each<[string, TrainingArgumentsInput]>([
    ["adam_epsilon 0", { adam_epsilon: 0 }],
    ["learning_rate 1e39", { learning_rate: 1e39 }],
    ["weight_decay 1e308", { weight_decay: 1e308 }],
    ["SGD with learning_rate 1e39", { optim: "sgd", learning_rate: 1e39 }],
    ["8-bit states", { optim: "adamw_8bit", learning_rate: 1e39 }],
  ])("%s: the run stops, and nothing of them is written", async (_, args) => {
    const { error, incidents, output_dir } = await run(SOURCE, undefined, { max_steps: 3, ...saved, ...args });
    expect(error?.name).toBe("UserError");
    expect(error?.message).toMatch(/stopped at update 1, whose step made weights or optimizer states that are NaN/);
    expect(error?.message).toContain("Nothing was saved");
    expect(incidents).toMatchObject([{ step: 1, found: "weights", action: "stop" }]);
    const left = readdirSync(output_dir).toSorted();
    expect(left.filter((name) => !["health.jsonl", "metrics.jsonl", "run.json", "status.json"].includes(name))).toEqual(
      [],
    );
  });

  it("rolls back where that is the policy, to a checkpoint of finite numbers", async () => {
    const output_dir = folder();
    const args = { max_steps: 5, lr_scheduler_type: "constant", ...saved } as const;
    const trainer: Trainer = new Trainer(
      tinyConfig(output_dir, args, {
        ...SOURCE,
        health: { non_finite: "rollback" },
        callbacks: [
          {
            onStepEnd: (_, { global_step }) => {
              if (global_step === 2) void trainer.set({ learning_rate: 1e39 });
              if (global_step === 3) void trainer.set({ learning_rate: 1e-3 });
            },
          },
        ],
      }),
    );
    expect(await trainer.train()).toMatchObject({ global_step: 5 });
    await expectFinite(output_dir);
    for (const step of [1, 2, 3, 4, 5]) await expectFinite(join(output_dir, `checkpoint-${step}`));
    expect(readFileSync(join(output_dir, "health.jsonl"), "utf8")).toMatch(/"found":"weights".*"action":"rollback"/);
  });

  it("a checkpoint that holds some is not resumed from", async () => {
    const output_dir = folder();
    await run(SOURCE, undefined, { max_steps: 2, ...saved }, output_dir);
    const newest = join(output_dir, "checkpoint-2");
    const path = join(newest, "optimizer.safetensors");
    const bytes = readFileSync(path);
    const { begin } = [...(await readHeader(path)).tensors].find(([name]) => name.endsWith("exp_avg_sq"))![1];
    bytes.writeFloatLE(Number.NaN, begin);
    writeFileSync(path, bytes);
    rmSync(join(newest, "manifest.json"));
    await seal(newest); // as if it had been written so
    const { error, log } = await run(
      SOURCE,
      undefined,
      { max_steps: 3, ...saved, resume_from_checkpoint: true },
      output_dir,
    );
    expect(error).toBeUndefined();
    expect(log.join("\n")).toMatch(/checkpoint-2 is damaged: .*exp_avg_sq holds numbers that are NaN or infinite/);
    expect(log.join("\n")).toContain("checkpoint-1: update 1 of 3");
  });
});

describe("a loss that is no number", () => {
  it("stops the run before the optimizer sees it, and is written down with its example", async () => {
    const source = await poisoned([5]);
    const { error, incidents, history, output_dir } = await run(source, undefined, {
      save_strategy: "steps",
      save_steps: 2,
    });
    expect(error?.name).toBe("UserError");
    expect(error?.message).toMatch(/stopped before update 6: the loss is NaN, the gradient norm NaN, at learning rate/);
    expect(error?.message).toContain(`${source.dataset}:6`);
    expect(incidents).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-/),
        step: 6,
        epoch: expect.closeTo(5 / 12, 10),
        loss: "NaN",
        grad_norm: "NaN",
        learning_rate: expect.closeTo(1e-2 * (7 / 12), 10),
        found: "gradients",
        examples: [5],
        sources: [`${source.dataset}:6`],
        action: "stop",
        in_a_row: 1,
      },
    ]);
    expect(history.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
    await expectFinite(join(output_dir, "checkpoint-4"));
  });

  it("is skipped on demand: the other updates are made, and the log has no 0.0", async () => {
    const { error, incidents, history, output_dir } = await run(await poisoned([3, 8]), { non_finite: "skip" });
    expect(error).toBeUndefined();
    expect(incidents.map(({ step, action, in_a_row }) => [step, action, in_a_row])).toEqual([
      [4, "skip", 1],
      [9, "skip", 1],
    ]);
    const training = history.filter((entry) => entry.train_loss === undefined);
    expect(training.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for (const entry of training) {
      const skipped = entry.step === 4 || entry.step === 9;
      expect(entry.loss === undefined, `step ${entry.step}`).toBe(skipped);
      expect(entry.skipped_updates).toBe(skipped ? 1 : undefined);
      expect(entry.learning_rate).toBeGreaterThan(0);
    }
    const losses = training.flatMap(({ loss }) => loss ?? []);
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / 10;
    expect(history.at(-1)!.train_loss).toBeCloseTo(mean, 10);
    await expectFinite(output_dir);
  });

  it("leaves no trace in the mean of a log entry", async () => {
    const source = await poisoned([3]);
    const each = await run(source, { non_finite: "skip" });
    const { history } = await run(source, { non_finite: "skip" }, { logging_steps: 4 });
    const losses = each.history.slice(0, 3).map(({ loss }) => loss!);
    expect(history[0]).toMatchObject({ step: 4, skipped_updates: 1 });
    expect(history[0]!.loss).toBeCloseTo((losses[0]! + losses[1]! + losses[2]!) / 3, 10);
  });

  it("stops the run when it comes max_in_a_row times", async () => {
    const { error, incidents } = await run(await poisoned([1, 4, 5, 6, 7]), { non_finite: "skip", max_in_a_row: 3 });
    expect(error?.message).toMatch(/stopped before update 7.* That is 3 in a row/);
    expect(incidents.map(({ step, action }) => `${step} ${action}`)).toEqual(["2 skip", "5 skip", "6 skip", "7 stop"]);
  });

  it("rolls back to the last checkpoint and goes on behind the bad batch", async () => {
    const source = await poisoned([6]);
    const args: TrainingArgumentsInput = { save_strategy: "steps", save_steps: 4 };
    const rolled = await run(source, { non_finite: "rollback" }, args);
    expect(rolled.error).toBeUndefined();
    expect(rolled.incidents.map(({ step, action }) => `${step} ${action}`)).toEqual(["7 rollback"]);
    await expectFinite(rolled.output_dir);
    // The loss of update 8 is what the weights of checkpoint-4 make of the eighth example: so is a run on that alone.
    const alone = join(folder(), "eighth.jsonl");
    writeFileSync(
      alone,
      readFileSync(source.dataset as string, "utf8")
        .split("\n")
        .slice(7, 8)
        .join("\n"),
    );
    const probe = new Trainer({
      ...tinyConfig(folder(), { max_steps: 1 }, { lora: undefined }),
      model: source.model,
      adapter: join(rolled.output_dir, "checkpoint-4"),
      dataset: alone,
    });
    const expected = (await probe.train()).training_loss;
    expect(rolled.history.find(({ step }) => step === 8)!.loss).toBeCloseTo(expected, 6);
  });

  it("gives the same end when the run is killed between the rollback and the end", async () => {
    const source = await poisoned([6]);
    const args: TrainingArgumentsInput = { save_strategy: "steps", save_steps: 4 };
    const whole = await run(source, { non_finite: "rollback" }, args);
    const output_dir = folder();
    cpSync(join(whole.output_dir, "checkpoint-8"), join(output_dir, "checkpoint-8"), { recursive: true });
    const resumed = await run(
      source,
      { non_finite: "rollback" },
      { ...args, resume_from_checkpoint: true },
      output_dir,
    );
    expect(resumed.error).toBeUndefined();
    expect(await weightsOf(output_dir)).toEqual(await weightsOf(whole.output_dir));
    expect(resumed.history.at(-1)!.train_loss).toBe(whole.history.at(-1)!.train_loss);
  });

  it("needs a checkpoint to roll back to", async () => {
    const args: TrainingArgumentsInput = { save_strategy: "steps", save_steps: 4 };
    const { error } = await run(await poisoned([2]), { non_finite: "rollback" }, args);
    expect(error?.message).toMatch(/stopped before update 3.*no checkpoint yet to roll back to/);
    expect(() => new Trainer(tinyConfig(folder(), {}, { health: { non_finite: "rollback" } }))).toThrow(
      /rollback needs checkpoints to go back to, but save_strategy is no/,
    );
  });

  it("is a gradient that overflows, too", async () => {
    const model = await changedModel((weight, name) => {
      if (name === "lm_head.weight") for (const i of weight.keys()) weight[i]! *= 1e38;
    });
    const { error } = await run({ model, dataset: fixturePath("data/prompt-completion.jsonl") }, undefined);
    expect(error?.message).toMatch(/stopped before update 1: .*(NaN|Infinity)/);
  });
});

describe("health in a config", () => {
  it.each<[object, RegExp]>([
    [{ non_finite: "ignore" }, /health.non_finite/],
    [{ max_in_a_row: 0 }, /health.max_in_a_row/],
    [{ nonfinite: "skip" }, /health/],
  ])("%j is refused", (health, message) => {
    expect(() => new Trainer(tinyConfig(folder(), {}, { health: health as HealthConfig }))).toThrow(message);
  });
});

describe("before the first update", () => {
  const dataset = (rows: object[]) => {
    const path = join(folder(), "data.jsonl");
    writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    return path;
  };
  const chat = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      messages: [
        { role: "user", content: `What is ${i}?` },
        { role: "assistant", content: `A number, ${i}.` },
      ],
    }));
  /** tiny-llama with another chat template. */
  function withTemplate(template: string): string {
    const model = folder();
    cpSync(fixturePath("tiny-llama"), model, { recursive: true });
    writeFileSync(join(model, "chat_template.jinja"), template);
    return model;
  }

  it("a chat template whose end of turn is not the token that ends generation is an error", async () => {
    const model = withTemplate(
      "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|endoftext|>\n{% endfor %}",
    );
    const source = { model, dataset: dataset(chat(4)) };
    const { error, output_dir } = await run(source, undefined);
    expect(error?.message).toMatch(/no example teaches the model to stop: .*\(<\|im_end\|>\) is in no label/);
    expect(error?.message).toMatch(/health.missing_end_token: warn/);
    expect(existsSync(join(output_dir, "metrics.jsonl"))).toBe(false);
    const warned = await run(source, { missing_end_token: "warn" });
    expect(warned.error).toBeUndefined();
    expect(warned.log.join("\n")).toMatch(/Note: no example teaches the model to stop/);
    const named = await run(source, undefined, { eos_token: "<|endoftext|>" });
    expect(named.error).toBeUndefined();
  });

  it("answers that are all cut off before their end are an error", async () => {
    const rows = Array.from({ length: 3 }, (_, i) => ({ prompt: "a", completion: `${i} and so on and on and on` }));
    const { error } = await run({ model: fixturePath("tiny-llama"), dataset: dataset(rows) }, undefined, {
      max_length: 6,
    });
    expect(error?.message).toMatch(/Every row was cut, and with its end that token: raise max_length/);
  });

  it("plain texts may end as they like", async () => {
    const rows = [{ story: "One day" }, { story: "and another day" }];
    const source = { model: fixturePath("tiny-llama"), dataset: dataset(rows) };
    const { error } = await run(source, undefined, { dataset_text_field: "story" });
    expect(error).toBeUndefined();
  });

  it("a template that writes the prompt otherwise on its own is an error", async () => {
    const model = withTemplate(
      "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}" +
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}",
    );
    const rows = chat(3).map(({ messages }) => ({ prompt: messages.slice(0, 1), completion: messages.slice(1) }));
    const source = { model, dataset: dataset(rows) };
    const { error } = await run(source, undefined);
    expect(error?.message).toMatch(/in 3 of 3 rows the chat template writes the prompt otherwise on its own/);
    const warned = await run(source, { prompt_mismatch: "warn" });
    expect(warned.error).toBeUndefined();
    expect(warned.log.join("\n")).toMatch(/Note: in 3 of 3 rows the chat template/);
    expect((await run(source, undefined, { completion_only_loss: false })).error).toBeUndefined();
  });

  it("an adapter without a gradient is an error that names its layers", async () => {
    const model = await changedModel((weight, name) => {
      if (name === "model.layers.1.self_attn.o_proj.weight") weight.fill(0);
    });
    const { error } = await run({ model, dataset: fixturePath("data/prompt-completion.jsonl") }, undefined);
    expect(error?.message).toMatch(
      /3 of 14 adapted layers get no gradient.*: model.layers.1.self_attn.q_proj, model.layers.1.self_attn.k_proj, model.layers.1.self_attn.v_proj/,
    );
  });

  it("an adapter whose first batch cannot tell is not accused", async () => {
    // one learned token behind a single one: attention has no choice, so queries and keys rightly get nothing
    const rows = [{ text: "" }, { text: "a" }, { text: "One day there was a longer text." }];
    const source = { model: fixturePath("tiny-llama"), dataset: dataset(rows.slice(1)) };
    const { error } = await run(source, undefined);
    expect(error).toBeUndefined();
  });
});
