/** Callbacks hear of the same events in the same order as Python's, and their wishes are met at the same places. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type {
  LoraConfig,
  TrainerCallback,
  TrainerControl,
  TrainerState,
  TrainingArgumentsInput,
} from "../src/index.js";
import { Trainer } from "../src/index.js";
import { fixturePath, readGoldenJson } from "./support/goldens.js";

interface EventsGolden {
  model: string;
  data: string;
  eval_rows: number;
  lora: LoraConfig;
  args: TrainingArgumentsInput;
  cases: Record<
    string,
    {
      args: TrainingArgumentsInput;
      /** The event, the step, and the flag that a callback sets there. */
      wish?: [string, number, keyof TrainerControl];
      /** The step of the checkpoint that the run resumes from. */
      from?: number;
      events: [string, number][];
    }
  >;
}

const golden = readGoldenJson<EventsGolden>("events.json");
const EVENTS = [
  "onInitEnd",
  "onTrainBegin",
  "onEpochBegin",
  "onStepBegin",
  "onSubstepEnd",
  "onPreOptimizerStep",
  "onOptimizerStep",
  "onStepEnd",
  "onLog",
  "onPredictionStep",
  "onEvaluate",
  "onPredict",
  "onSave",
  "onPushBegin",
  "onEpochEnd",
  "onTrainEnd",
] as const;
const pythonName = (event: string) => event.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const folders: string[] = [];
const folder = () => {
  folders.push(mkdtempSync(join(tmpdir(), "slimtune-events-")));
  return folders.at(-1)!;
};
afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

async function record(output_dir: string, args: TrainingArgumentsInput, wish?: [string, number, keyof TrainerControl]) {
  const told: [string, number][] = [];
  const callback: TrainerCallback = {};
  for (const event of EVENTS) {
    callback[event] = (_: unknown, state: TrainerState, control: TrainerControl) => {
      told.push([pythonName(event), state.global_step]);
      if (wish?.[0] === pythonName(event) && wish[1] === state.global_step) control[wish[2]] = true;
    };
  }
  const data = fixturePath(`data/${golden.data}`);
  const evaluates = (args.eval_strategy ?? "no") !== "no";
  const evalFile = join(folder(), "eval.jsonl");
  writeFileSync(evalFile, readFileSync(data, "utf8").split("\n").slice(0, golden.eval_rows).join("\n"));
  await new Trainer({
    model: fixturePath(golden.model),
    dataset: data,
    eval_dataset: evaluates ? evalFile : undefined,
    lora: golden.lora,
    training_args: {
      logging_steps: 100,
      save_strategy: "no",
      use_cpu: true,
      bf16: false,
      seed: 42,
      ...golden.args,
      ...args,
      output_dir,
    },
    callbacks: [callback],
    log: () => {},
  }).train();
  return told;
}

describe("the order of events", () => {
  it.each(Object.keys(golden.cases))("%s", async (name) => {
    const { args, wish, from, events } = golden.cases[name]!;
    const output = folder();
    if (from === undefined) {
      expect(await record(output, args, wish)).toEqual(events);
    } else {
      await record(output, args);
      const resume_from_checkpoint = join(output, `checkpoint-${from}`);
      expect(await record(output, { ...args, resume_from_checkpoint })).toEqual(events);
    }
  });
});
