import { UserError } from "../../errors.js";
import { createScheduler } from "../../optim/schedulers.js";
import type { FieldValues } from "./table.js";

export interface Problem {
  /** The key that the user wrote. */
  readonly name: string;
  readonly message: string;
}

/** The rules that bind several arguments together, as transformers checks them. */
export function crossFieldProblems(values: FieldValues): Problem[] {
  const problems: Problem[] = [];
  const fail = (name: string, message: string) => problems.push({ name, message });

  if (values.fp16 && values.bf16) fail("fp16", "fp16 and bf16 exclude each other; keep one of them");
  if (values.fp16_full_eval && values.bf16_full_eval) {
    fail("fp16_full_eval", "fp16_full_eval and bf16_full_eval exclude each other; keep one of them");
  }
  if (values.logging_strategy === "steps" && values.logging_steps === 0) {
    fail("logging_steps", "must not be 0 with logging_strategy steps; use logging_strategy: no to log nothing");
  }
  const rhythms = [
    ["logging_steps", values.logging_strategy],
    ["save_steps", values.save_strategy],
  ] as const;
  for (const [name, strategy] of rhythms) {
    const value = values[name];
    if (strategy === "steps" && value > 1 && !Number.isInteger(value)) {
      fail(name, `expected a whole number of updates, or a share of all updates below 1, got ${value}`);
    }
  }
  if (values.dataloader_prefetch_factor !== null && values.dataloader_num_workers === 0) {
    fail("dataloader_prefetch_factor", "needs dataloader_num_workers above 0");
  }
  const problem = scheduleProblem(values);
  if (problem !== undefined) problems.push(problem);
  return problems;
}

/** Builds the schedule of an arbitrary length, because only that knows its parameters. */
function scheduleProblem(values: FieldValues): Problem | undefined {
  try {
    createScheduler(values, { maxSteps: 100 });
    return undefined;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const [, name, message] = /^(\w+): (.*)$/s.exec(error.message)!;
    return { name: name!, message: message! };
  }
}
