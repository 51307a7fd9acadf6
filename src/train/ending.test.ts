import { describe, expect, it } from "vitest";
import { TrainingArguments } from "../arguments/index.js";
import { type LogEntry, newTrainerState } from "../runFolder/state.js";
import { describeEnd, type Ending } from "./ending.js";

const metrics = { train_runtime: 90, train_tokens_per_second: 1134 };

function lines(step: number, entries: LogEntry[], more: Partial<Ending> = {}): string[] {
  const args = new TrainingArguments();
  const state = newTrainerState(args, { max_steps: 6, num_train_epochs: 2, train_batch_size: 1 });
  Object.assign(state, { global_step: step, log_history: entries });
  const output = { global_step: step, training_loss: 1.5, metrics, interrupted: false };
  return describeEnd({ output, state, outputDir: "out", result: "a PEFT adapter", from: 0, ...more });
}

describe("describeEnd", () => {
  it("says time, speed, the last loss and the best, and where the result is", () => {
    const entries: LogEntry[] = [
      { step: 2, loss: 2 },
      { step: 3, eval_loss: 0.9 },
      { step: 4, loss: 0.5 },
      { step: 6, loss: 0.75 },
      { step: 6, eval_loss: 1 },
    ];
    expect(lines(6, entries)).toEqual([
      "Finished    6 updates, in 1 min 30 s (1.1k tokens/s)",
      "Loss        0.7500 at the end, 0.5000 at best (update 4), mean 1.5000",
      "Evaluation  loss 1.0000 at the end, 0.9000 at best (update 3)",
      "Result      out (a PEFT adapter)",
    ]);
  });

  it("has the mean where nothing was logged", () => {
    expect(lines(1, [])[1]).toBe("Loss        1.5000 on average");
  });

  it.each<[string, number, Partial<Ending>, RegExp]>([
    [
      "early stopping",
      4,
      { patience: 1 },
      /^Stopped {5}early, at update 4 of 6, after 1 evaluation without improvement,/,
    ],
    ["early stopping", 4, { patience: 3 }, /after 3 evaluations without improvement, in/],
    ["a callback", 4, {}, /^Stopped {5}at update 4 of 6, by a callback, in/],
    [
      "an earlier process",
      6,
      { from: 6 },
      /^Finished {4}before, at update 6: nothing is left to do\. To train longer,/,
    ],
    [
      "an earlier process",
      4,
      { from: 4, patience: 2 },
      /before, at update 4, after 2 evaluations .* raise early_stopping/,
    ],
  ])("says that %s ended it (%s, %j)", (_, step, more, expected) => {
    expect(lines(step, [], more)[0]).toMatch(expected);
  });

  it("says where the state of an interrupted run is", () => {
    const output = { global_step: 3, training_loss: 1, metrics: {}, interrupted: true, checkpoint: "out/checkpoint-3" };
    expect(lines(3, [], { output })).toEqual(["Interrupted after update 3 of 6; its state is in out/checkpoint-3"]);
  });
});
