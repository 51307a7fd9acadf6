import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { flush, ops, scope } from "../torch/index.js";
import { evaluationAdvice, explainMemory, trainingAdvice } from "./outOfMemory.js";

const advise = (size: number, accumulation: number) =>
  trainingAdvice({ per_device_train_batch_size: size, gradient_accumulation_steps: accumulation });

describe("too little memory", () => {
  it("keeps the update and splits it further", () => {
    expect(advise(8, 2)).toMatch("per_device_train_batch_size to 4 and gradient_accumulation_steps to 4:");
    expect(advise(15, 1)).toMatch("per_device_train_batch_size to 5 and gradient_accumulation_steps to 3:");
    expect(advise(7, 3)).toMatch("per_device_train_batch_size to 1 and gradient_accumulation_steps to 21:");
    expect(advise(1, 4)).toMatch("per_device_train_batch_size is 1 already");
  });

  it("names the option of an evaluation", () => {
    expect(evaluationAdvice({ per_device_eval_batch_size: 8 })).toMatch("per_device_eval_batch_size (it is 8)");
    expect(evaluationAdvice({ per_device_eval_batch_size: 1 })).toMatch("is 1 already");
  });

  it("is seen by the error's code, and what was asked for is told", () => {
    const text =
      "aten::mm: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.72 GiB of which 3.12 GiB is free. (inputs: float32[4,4])";
    const error = Object.assign(new Error(text), { code: "SLIMTUNE_OUT_OF_MEMORY" });
    const explained = explainMemory(error, "Do this.") as UserError;
    expect(explained).toBeInstanceOf(UserError);
    expect(explained.message).toBe("Too little memory (CUDA out of memory. Tried to allocate 20.00 GiB). Do this.");
    expect(explained.cause).toBe(error);
    const silent = Object.assign(new Error("out of memory"), { code: "SLIMTUNE_OUT_OF_MEMORY" });
    expect((explainMemory(silent, "Do this.") as Error).message).toBe("Too little memory. Do this.");
  });

  it("is seen on the CPU", async () => {
    scope(() => ops.empty([2 ** 40, 2 ** 10]));
    const error = await flush().catch((reason) => reason);
    expect((explainMemory(error, "Do this.") as Error).message).toBe(
      "Too little memory (CPU out of memory. Tried to allocate 4294967296 MiB). Do this.",
    );
    await flush();
  });

  it("leaves other errors alone", () => {
    for (const other of [
      new Error("the tensor is undefined"),
      new Error("CUDA out of memory. Tried to allocate 1 GiB, says a message without a code"),
      new UserError("Too little memory. Told before."),
      undefined,
    ]) {
      expect(explainMemory(other, "Do this.")).toBe(other);
    }
  });
});
