import { chooseOptimizer, OPTIMIZER_NAMES } from "../optim/catalogue.js";
import { createScheduler } from "../optim/schedulers.js";
import { UserError } from "../support/errors.js";
import { METRIC_DRIVEN } from "./derive.js";
import { recomputeEvery } from "./gradientCheckpointing.js";
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
    ["eval_steps", values.eval_strategy],
    ["save_steps", values.save_strategy],
  ] as const;
  for (const [name, strategy] of rhythms) {
    const value = values[name] ?? 0;
    if (strategy === "steps" && value > 1 && !Number.isInteger(value)) {
      fail(name, `expected a whole number of updates, or a share of all updates below 1, got ${value}`);
    }
  }
  if (values.dataloader_prefetch_factor !== null && values.dataloader_num_workers === 0) {
    fail("dataloader_prefetch_factor", "needs dataloader_num_workers above 0");
  }
  if (values.packing || values.eval_packing) {
    const name = values.packing ? "packing" : "eval_packing";
    if (values.max_length === null) fail(name, "needs max_length, the tokens of a packed row; it is null");
    if (values.truncation_mode === "keep_end") {
      fail(name, "keeps the start of an example that is too long: remove truncation_mode keep_end");
    }
  }
  problems.push(...evaluationProblems(values));
  const optimizer = optimizerProblem(values);
  if (optimizer !== undefined) problems.push(optimizer);
  const problem = scheduleProblem(values);
  if (problem !== undefined) problems.push(problem);
  const checkpointing = problemOf(() => recomputeEvery(values));
  if (checkpointing !== undefined) problems.push(checkpointing);
  return problems;
}

/** What the chosen optimizer makes of `optim_args`. */
function optimizerProblem({
  optim,
  optim_args,
  adam_beta1,
  adam_beta2,
  adam_epsilon,
}: FieldValues): Problem | undefined {
  if (!OPTIMIZER_NAMES.includes(optim)) return undefined; // refused by its field
  return problemOf(() =>
    chooseOptimizer(optim, optim_args, { beta1: adam_beta1, beta2: adam_beta2, eps: adam_epsilon }),
  );
}

/** Rules among evaluation, saving and what follows a metric; values that the Trainer derives are filled in. */
function evaluationProblems(values: FieldValues): Problem[] {
  const problems: Problem[] = [];
  const fail = (name: string, message: string) => problems.push({ name, message });
  const { eval_strategy, save_strategy } = values;
  if (eval_strategy === "steps" && !values.eval_steps) {
    fail("eval_steps", "must not be 0 with eval_strategy steps (without it, logging_steps is taken, which is 0 too)");
  }
  if (METRIC_DRIVEN.has(values.lr_scheduler_type) && eval_strategy === "no") {
    fail(
      "lr_scheduler_type",
      `${values.lr_scheduler_type} follows an evaluation metric: set eval_strategy to steps or epoch`,
    );
  }
  if (save_strategy === "best") {
    if (eval_strategy === "no") fail("save_strategy", "best needs evaluations: set eval_strategy to steps or epoch");
    else if (values.metric_for_best_model === null) {
      fail("save_strategy", "best needs metric_for_best_model, for instance metric_for_best_model: loss");
    }
  } else if (values.load_best_model_at_end && eval_strategy !== save_strategy) {
    fail(
      "load_best_model_at_end",
      `needs checkpoints where evaluations are, but eval_strategy is ${eval_strategy} and save_strategy ${save_strategy}; make them equal, or set save_strategy to best`,
    );
  } else if (values.load_best_model_at_end && eval_strategy === "steps" && values.eval_steps) {
    const [save, evaluate] = [values.save_steps, values.eval_steps];
    const mixed = save < 1 !== evaluate < 1;
    // Shares are compared in millionths: 0.3 is no multiple of 0.1 in binary fractions.
    const millionths = (share: number) => (share < 1 ? Math.round(share * 1e6) : share);
    if (mixed || millionths(save) % millionths(evaluate) !== 0) {
      fail(
        "load_best_model_at_end",
        `needs an evaluation at every checkpoint, but save_steps ${save} is no multiple of eval_steps ${evaluate}${mixed ? " (one is a share of all updates, the other a number)" : ""}`,
      );
    }
  }
  return problems;
}

/** Builds the schedule of an arbitrary length, because only that knows its parameters. */
function scheduleProblem(values: FieldValues): Problem | undefined {
  return problemOf(() => createScheduler(values, { maxSteps: 100 }));
}

/** The problem that `make` names, as "argument: message". */
function problemOf(make: () => unknown): Problem | undefined {
  try {
    make();
    return undefined;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const [, name, message] = /^(\w+): (.*)$/s.exec(error.message)!;
    return { name: name!, message: message! };
  }
}
