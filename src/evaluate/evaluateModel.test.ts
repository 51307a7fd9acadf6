import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { evaluateModel } from "./evaluateModel.js";

const fixture = (name: string) => fileURLToPath(new URL(`../../tests/fixtures/${name}`, import.meta.url));

it("tells what the arguments have to note, as training does", async () => {
  const lines: string[] = [];
  await evaluateModel({
    model: fixture("tiny-llama"),
    dataset: fixture("data/text.jsonl"),
    training_args: { use_cpu: true, per_gpu_eval_batch_size: 2, log_level: "info" },
    log: (line) => lines.push(line),
  });
  expect(lines).toEqual([
    "per_gpu_eval_batch_size is an old name: taken as per_device_eval_batch_size: 2",
    expect.stringMatching(/^log_level has no effect: /),
  ]);
});
