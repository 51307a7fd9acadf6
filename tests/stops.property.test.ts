/**
 * A run that is stopped anywhere and resumed ends with what the uninterrupted one ends with: random runs, each stopped at
 * random events (a micro-batch of an evaluation is one). SLIMTUNE_STOPS=300 npx vitest run tests/stops.property.test.ts
 * stops 300 runs.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { TRAINER_EVENTS, type TrainerCallback, type TrainerEvent } from "../src/callbacks/callbacks.js";
import { Trainer } from "../src/index.js";
import { fixturePath } from "./support/goldens.js";
import { lastSaved, outcome } from "./support/outcome.js";
import { type RandomRun, randomRun } from "./support/randomRun.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const STOPS = Number(process.env.SLIMTUNE_STOPS ?? 30);
/** So many of them for each config, so that the uninterrupted one is made once for all of them. */
const PLACES = 3;
const folder = temporaryFolders();

/** Shares of the events of a kind and of the calls of one: a kind that is told once is as likely as one told often. */
interface Stop {
  kind: number;
  call: number;
  /** By an AbortSignal, not by `requestStop()`. */
  signal: boolean;
}

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const stop: fc.Arbitrary<Stop> = fc.record({
  kind: share,
  call: fc.oneof(share, fc.constant(0.999)), // most goes wrong around the last update
  signal: fc.boolean(),
});
/** A run is stopped, and now and then stopped again after a resume. */
const stops = fc.oneof({ arbitrary: fc.tuple(stop), weight: 2 }, { arbitrary: fc.tuple(stop, stop), weight: 1 });

/** Calls back at every event, with the number of the call, from 0. */
function listener(onEvent: (event: TrainerEvent, call: number) => void): TrainerCallback {
  const calls = new Map<TrainerEvent, number>();
  const told = (event: TrainerEvent) => () => {
    const call = calls.get(event) ?? 0;
    calls.set(event, call + 1);
    onEvent(event, call);
  };
  return Object.fromEntries(TRAINER_EVENTS.map((event) => [event, told(event)])) as TrainerCallback;
}

const trainer = ({ args, more }: RandomRun, output_dir: string, callbacks: TrainerCallback[], resume: boolean) =>
  new Trainer({
    log: () => {},
    ...more,
    callbacks,
    training_args: { ...args, output_dir, ...(resume ? { resume_from_checkpoint: true } : {}) },
  });

/** Trains; gives how often each event was told. */
async function whole(run: RandomRun, output_dir: string): Promise<Map<TrainerEvent, number>> {
  const told = new Map<TrainerEvent, number>();
  await trainer(run, output_dir, [listener((event, call) => told.set(event, call + 1))], false).train();
  return told;
}

/** Trains, stopped at that call of the event; gives whether anything is left to do. */
async function trainUntil(
  run: RandomRun,
  output_dir: string,
  { event, call, signal }: { event: TrainerEvent; call: number; signal: boolean },
  resume: boolean,
): Promise<boolean> {
  const abort = new AbortController();
  const at = listener((told, count) => {
    if (told !== event || count !== call) return;
    if (signal) abort.abort();
    else made.requestStop();
  });
  const made: Trainer = trainer(run, output_dir, [at], resume);
  return (await made.train({ signal: abort.signal })).interrupted;
}

it(`a run stopped anywhere and resumed is the same run (${STOPS} stopped runs)`, {
  timeout: 60_000 + STOPS * 5_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(randomRun, fc.array(stops, { minLength: PLACES, maxLength: PLACES }), async (run, places) => {
      const home = mkdtempSync(join(tmpdir(), "slimtune-stops-"));
      try {
        const plain = join(home, "plain");
        const told = await whole(run, plain);
        const saved = lastSaved(plain);
        const expected = outcome(plain, saved);
        for (const [i, place] of places.entries()) {
          const output = join(home, `stopped-${i}`);
          const where = place.map(({ kind, call, signal }) => {
            const [event, calls] = [...told][Math.floor(kind * told.size)]!;
            return { event, call: Math.floor(call * calls), signal };
          });
          let left = true;
          for (const [start, at] of where.entries()) left &&= await trainUntil(run, output, at, start > 0);
          if (left) await trainer(run, output, [], true).train();
          expect(outcome(output, saved), `stopped at ${JSON.stringify(where)}`).toEqual(expected);
        }
      } finally {
        rmSync(home, { recursive: true });
      }
    }),
    { numRuns: Math.ceil(STOPS / PLACES) },
  );
});

it("stopped inside the evaluation that finds the best model, it ends with the best", async () => {
  const run = (output_dir: string, stopInEvaluationOf?: number, resume = false) => {
    const made: Trainer = tinyTrainer(
      output_dir,
      {
        max_steps: 6,
        learning_rate: 1e-3, // so that each evaluation is better than the one before
        eval_strategy: "steps",
        eval_steps: 2,
        per_device_eval_batch_size: 4,
        save_strategy: "steps",
        save_steps: 2,
        save_total_limit: 2,
        load_best_model_at_end: true,
        ...(resume ? { resume_from_checkpoint: true } : {}),
      },
      {
        eval_dataset: fixturePath("data/prompt-completion.jsonl"),
        callbacks: [
          {
            onPredictionStep: (_args, { global_step }) => {
              if (global_step === stopInEvaluationOf) made.requestStop();
            },
          },
        ],
      },
    );
    return made.train();
  };
  const [plain, stopped] = [join(folder(), "plain"), join(folder(), "stopped")];
  await run(plain);
  expect(outcome(plain, 6).state.best_model_checkpoint).toBe("checkpoint-6");
  expect(await run(stopped, 6)).toMatchObject({ interrupted: true, global_step: 6 });
  await run(stopped, undefined, true);
  expect(outcome(stopped, 6)).toEqual(outcome(plain, 6));
});

it("the result's state has what callbacks counted until the end, not until the last checkpoint", async () => {
  const output = join(folder(), "out");
  const args = { max_steps: 3, eval_strategy: "steps", eval_steps: 1, metric_for_best_model: "loss" } as const;
  const more = { eval_dataset: fixturePath("data/prompt-completion.jsonl"), early_stopping: { patience: 9 } };
  await tinyTrainer(output, { ...args, learning_rate: 1e-3, save_strategy: "no" }, more).train();
  expect(outcome(output, undefined).state.stateful_callbacks).toMatchObject({
    EarlyStoppingCallback: { attributes: { early_stopping_patience_counter: 0 } },
  });
});
