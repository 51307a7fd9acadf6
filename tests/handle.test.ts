/** A run from outside: its events, stopping, pausing and saving it, and the process around it. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { LogEntry, TrainerCallback, TrainingEvent } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyTrainer } from "./support/tinyRun.js";

const folder = temporaryFolders();
const DROPOUT = { ...TINY_LORA, lora_dropout: 0.1 };

async function collect(events: AsyncIterable<TrainingEvent>): Promise<TrainingEvent[]> {
  const all: TrainingEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const stepOf = (event: TrainingEvent) => ("step" in event ? event.step : undefined);

describe("events", () => {
  it("come to every listener, in order, and end with the output", async () => {
    const trainer = tinyTrainer(folder(), { max_steps: 4, save_strategy: "steps", save_steps: 3 });
    const [first, second] = [collect(trainer.events()), collect(trainer.events())];
    const output = await trainer.train();
    const events = await first;
    expect(await second).toEqual(events);
    expect(events.map((event) => `${event.type} ${stepOf(event) ?? ""}`)).toEqual([
      "start 0",
      "step 1",
      "log 1",
      "step 2",
      "log 2",
      "step 3",
      "log 3",
      "save 3",
      "step 4",
      "log 4",
      "save 4",
      "epoch 4",
      "log 4",
      "end ",
    ]);
    expect(events.at(-1)).toEqual({ type: "end", output });
    expect(events[1]).toMatchObject({ step: 1, maxSteps: 4, loss: expect.any(Number), learningRate: 1e-2 });
  });

  it("may begin and end at any time; nobody has to listen to the end", async () => {
    const trainer = tinyTrainer(folder(), { max_steps: 4 });
    const training = trainer.train();
    const late = trainer.events();
    for await (const event of late) if (event.type === "step" && event.step === 2) break;
    expect(await late.next()).toEqual({ value: undefined, done: true });
    expect((await training).global_step).toBe(4);
    expect(await collect(trainer.events())).toEqual([]); // the run is over
  });

  it("tell of a failure, which is then no unhandled rejection", async () => {
    const trainer = tinyTrainer(folder(), {}, { dataset: join(folder(), "none.jsonl") });
    const events = trainer.events();
    trainer.train(); // nobody waits for this promise
    const all = await collect(events);
    expect(all).toEqual([{ type: "error", error: expect.objectContaining({ name: "UserError" }) }]);
  });
});

describe("a run is steered", () => {
  it("stops after the update at hand when its signal aborts, and can go on", async () => {
    const output_dir = folder();
    const controller = new AbortController();
    const trainer = tinyTrainer(output_dir, { max_steps: 6 });
    const events = trainer.events();
    const training = trainer.train({ signal: controller.signal });
    for await (const event of events) if (event.type === "step" && event.step === 2) controller.abort();
    const output = await training;
    expect(output.interrupted).toBe(true);
    expect([2, 3]).toContain(output.global_step);
    expect(output.checkpoint).toBe(join(output_dir, `checkpoint-${output.global_step}`));
    const resumed = await tinyTrainer(output_dir, { max_steps: 6, resume_from_checkpoint: true }).train();
    expect(resumed).toMatchObject({ interrupted: false, global_step: 6 });
  });

  it("that is stopped before its first update leaves nothing", async () => {
    const output_dir = join(folder(), "new");
    const signal = AbortSignal.abort();
    await expect(tinyTrainer(output_dir).train({ signal })).rejects.toBe(signal.reason);
    expect(existsSync(output_dir)).toBe(false);
  });

  it("pauses, saves in the pause, and goes on with the same result", async () => {
    const [plain, paused] = [folder(), folder()];
    await tinyTrainer(plain, { max_steps: 5 }).train();

    const trainer = tinyTrainer(paused, { max_steps: 5 });
    const events = trainer.events();
    const training = trainer.train();
    let saved = "";
    for await (const event of events) {
      if (event.type === "step" && event.step === 2) trainer.pause();
      if (event.type !== "pause") continue;
      await sleep(1000);
      saved = await trainer.saveNow();
      expect(saved).toBe(join(paused, `checkpoint-${event.step}`));
      expect(await trainer.saveNow()).toBe(saved);
      trainer.resume();
    }
    const { metrics } = await training;
    expect(existsSync(join(saved, "manifest.json"))).toBe(true);
    const weights = (of: string) => readFileSync(join(of, "adapter_model.safetensors"));
    expect(weights(paused).equals(weights(plain))).toBe(true);
    expect(metrics.train_runtime).toBeLessThan(1); // 5 updates take some 100 ms: the pause is no training
  });

  it("can be stopped in a pause", async () => {
    const trainer = tinyTrainer(folder(), { max_steps: 5 });
    trainer.pause();
    const events = trainer.events();
    const training = trainer.train();
    for await (const event of events) if (event.type === "pause") trainer.requestStop();
    expect(await training).toMatchObject({ interrupted: true, global_step: 1 });
  });

  it("saves when asked, and says so when it is too late", async () => {
    const output_dir = folder();
    const trainer = tinyTrainer(output_dir, { max_steps: 3 });
    const saved = trainer.saveNow(); // before it began: after the first update
    await trainer.train();
    expect(await saved).toBe(join(output_dir, "checkpoint-1"));
    await expect(trainer.saveNow()).rejects.toThrow("the run is over");
  });

  it("evaluates when asked, and says what it lacks", async () => {
    const evaluation = { eval_dataset: fixturePath("data/prompt-completion.jsonl") };
    const trainer = tinyTrainer(folder(), { max_steps: 3, eval_strategy: "steps", eval_steps: 99 }, evaluation);
    const asked = trainer.evaluateNow();
    await trainer.train();
    expect((await asked).eval_loss).toBeGreaterThan(1);
    const without = tinyTrainer(folder(), { max_steps: 3 });
    const refused = expect(without.evaluateNow()).rejects.toThrow("there is nothing to evaluate on");
    expect((await without.train()).global_step, "the run goes on").toBe(3);
    await refused;
  });

  it("changes settings; stopped and resumed before the change it is the same run", async () => {
    const args = { max_steps: 20, save_strategy: "steps", save_steps: 2, warmup_steps: 3 } as const;
    const changed = (output_dir: string, stopAt?: number) => {
      const change: TrainerCallback = {
        onStepEnd: (_, { global_step }) => {
          if (global_step === 4) void trainer.set({ learning_rate: 3e-3, max_steps: 9, logging_steps: 2 });
          if (global_step === 6) void trainer.set({ max_grad_norm: 0.1 });
          if (global_step === stopAt) trainer.requestStop();
        },
      };
      const trainer = tinyTrainer(output_dir, args, { callbacks: [change], lora: DROPOUT });
      return trainer.train();
    };
    const [whole, stopped] = [folder(), folder()];
    expect(await changed(whole)).toMatchObject({ global_step: 9 });
    const state = (path: string) => JSON.parse(readFileSync(join(path, "trainer_state.json"), "utf8"));
    expect(state(whole)).toMatchObject({ max_steps: 9, logging_steps: 2 });
    await changed(stopped, 7);
    for (const name of ["checkpoint-7", "checkpoint-6", "checkpoint-4"])
      rmSync(join(stopped, name), { recursive: true });
    await tinyTrainer(stopped, { ...args, resume_from_checkpoint: true }, { lora: DROPOUT }).train();
    const curve = (path: string) =>
      state(path).log_history.map(({ step, loss, grad_norm, learning_rate }: LogEntry) => [
        step,
        loss,
        grad_norm,
        learning_rate,
      ]);
    expect(curve(stopped)).toEqual(curve(whole));
    const weights = (path: string) => readFileSync(join(path, "adapter_model.safetensors"));
    expect(weights(stopped).equals(weights(whole))).toBe(true);
  });

  it("tells those who wait for a checkpoint why there is none", async () => {
    const trainer = tinyTrainer(folder(), {}, { dataset: join(folder(), "none.jsonl") });
    const saved = expect(trainer.saveNow()).rejects.toThrow("none.jsonl");
    await expect(trainer.train()).rejects.toThrow("none.jsonl");
    await saved;
  });
});

describe("the process stays alive", () => {
  it("while an update goes on: a server answers and timers fire", async () => {
    const server = createServer((_, response) => response.end("here")).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    let inUpdate = false;
    const answered = { within: 0, after: 0 };
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    let asking = true;
    const asker = (async () => {
      while (asking) {
        await (await fetch(address)).text();
        answered[inUpdate ? "within" : "after"]++;
      }
    })();
    // one update of 64 micro-batches: seconds on a large model, and as many turns for others
    const trainer = tinyTrainer(
      folder(),
      { max_steps: 2, per_device_train_batch_size: 1, gradient_accumulation_steps: 64, num_train_epochs: 20 },
      {
        callbacks: [
          {
            onStepBegin: () => {
              inUpdate = true;
            },
            onPreOptimizerStep: () => {
              inUpdate = false;
            },
          },
        ],
      },
    );
    await trainer.train();
    asking = false;
    await asker;
    clearInterval(timer);
    server.close();
    expect(answered.within).toBeGreaterThan(3);
    expect(ticks).toBeGreaterThan(5);
  });
});
