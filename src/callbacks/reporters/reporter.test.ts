import { expect, it } from "vitest";
import { TrainingArguments } from "../../arguments/index.js";
import { newTrainerState } from "../../runFolder/state.js";
import { CallbackHandler, newTrainerControl, TRAINER_EVENTS, type TrainerEvent } from "../callbacks.js";
import { guarded, type Reporter } from "./reporter.js";

const args = new TrainingArguments();
const state = newTrainerState(args, { max_steps: 1, num_train_epochs: 1, train_batch_size: 1 });

function reporter(onEvent: (event: string) => void): Reporter {
  const handlers = Object.fromEntries(TRAINER_EVENTS.map((event) => [event, () => onEvent(event)]));
  return { name: "mine", ...handlers, close: async () => onEvent("close") };
}

it("a guarded reporter hears all sixteen events, and its close", async () => {
  const heard: string[] = [];
  const safe = guarded(
    reporter((event) => heard.push(event)),
    () => {},
  );
  const handler = new CallbackHandler([safe]);
  // biome-ignore lint/suspicious/noExplicitAny: no handler here looks at its details
  const tell = (event: TrainerEvent) => handler.call(event, args, state, newTrainerControl(), {} as any);
  for (const event of TRAINER_EVENTS) await tell(event);
  await safe.close("finished");
  expect(heard).toEqual([...TRAINER_EVENTS, "close"]);
  expect(heard).toHaveLength(17);
});

it("its first error is told, and nothing else comes of it", async () => {
  const lines: string[] = [];
  const failing = reporter((event) => {
    throw new Error(`no ${event}`);
  });
  const handler = new CallbackHandler([guarded(failing, (line) => lines.push(line))]);
  await handler.call("onStepEnd", args, state, newTrainerControl(), {});
  await handler.call("onTrainEnd", args, state, newTrainerControl(), {});
  expect(lines).toEqual(["mine: no onStepEnd. Training goes on without it."]);
});
