import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { createScheduler, warmupSteps } from "./schedulers.js";

const base = { learning_rate: 1, lr_scheduler_type: "linear", lr_scheduler_kwargs: null, warmup_steps: 2 };

function curve(args: Partial<Parameters<typeof createScheduler>[0]>, maxSteps = 10): number[] {
  const scheduler = createScheduler({ ...base, ...args }, { maxSteps });
  return Array.from({ length: maxSteps + 1 }, (_, step) => scheduler.learningRate(step));
}

// transformers 5.18 with 10 updates, 2 of warm-up and learning rate 1: the factor of update 1..10, and the one after.
const PYTHON: [string, Record<string, unknown> | null, number[]][] = [
  ["linear", null, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]],
  ["cosine", null, [0, 0.5, 1, 0.96194, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.03806, 0]],
  ["cosine_with_restarts", { num_cycles: 2 }, [0, 0.5, 1, 0.853553, 0.5, 0.146447, 1, 0.853553, 0.5, 0.146447, 0]],
  [
    "polynomial",
    { lr_end: 0.1, power: 2 },
    [0, 0.5, 1, 0.789062, 0.60625, 0.451562, 0.325, 0.226562, 0.15625, 0.114063, 0.1],
  ],
  ["constant", null, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]],
  ["constant_with_warmup", null, [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]],
  // biome-ignore lint/suspicious/noApproximativeNumericConstant: measured values, not constants
  ["inverse_sqrt", null, [0, 0.5, 1, 0.816497, 0.707107, 0.632456, 0.57735, 0.534522, 0.5, 0.471405, 0.447214]],
  [
    "cosine_with_min_lr",
    { min_lr_rate: 0.1 },
    [0, 0.5, 1, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802, 0.134254, 0.1],
  ],
  [
    "cosine_warmup_with_min_lr",
    { min_lr_rate: 0.1 },
    [0.5, 1, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802, 0.134254, 0.1, 0.134254],
  ],
  ["warmup_stable_decay", { num_decay_steps: 3 }, [0, 0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.25, 0]],
];

interface Golden {
  type: string;
  learning_rate: number;
  warmup_steps: number;
  max_steps: number;
  kwargs: Record<string, unknown>;
  rates: number[];
}

const goldens: Golden[] = JSON.parse(
  readFileSync(new URL("../../tests/goldens/schedules.json", import.meta.url), "utf8"),
).by_step;

describe("createScheduler", () => {
  it("has goldens for every schedule", () => {
    expect(new Set(goldens.map(({ type }) => type))).toEqual(new Set(PYTHON.map(([type]) => type)));
  });

  it.each(goldens)("$type, warm-up $warmup_steps of $max_steps, $kwargs: Python's learning rates", (golden) => {
    const { type, learning_rate, warmup_steps, max_steps, kwargs, rates } = golden;
    const args = { lr_scheduler_type: type, lr_scheduler_kwargs: kwargs, learning_rate, warmup_steps };
    const actual = curve(args, max_steps);
    expect(rates).toHaveLength(actual.length);
    for (const [step, rate] of rates.entries()) {
      expect(Math.abs(actual[step]! - rate)).toBeLessThanOrEqual(1e-14 * learning_rate);
    }
  });

  it.each(PYTHON)("%s %j has Python's curve", (lr_scheduler_type, lr_scheduler_kwargs, expected) => {
    const factors = curve({ lr_scheduler_type, lr_scheduler_kwargs });
    expect(factors).toHaveLength(expected.length);
    // The table has six significant digits.
    for (const [step, factor] of factors.entries()) expect(Math.abs(factor - expected[step]!)).toBeLessThan(6e-7);
  });

  it("takes JSON text, as the Trainer does", () => {
    const asText = curve({ lr_scheduler_type: "cosine_with_restarts", lr_scheduler_kwargs: '{"num_cycles": 2}' });
    expect(asText).toEqual(
      curve({ lr_scheduler_type: "cosine_with_restarts", lr_scheduler_kwargs: { num_cycles: 2 } }),
    );
  });

  it("turns an absolute min_lr into a rate of learning_rate", () => {
    const rate = { lr_scheduler_type: "cosine_with_min_lr", lr_scheduler_kwargs: { min_lr_rate: 0.25 } };
    const absolute = { ...rate, learning_rate: 2e-4, lr_scheduler_kwargs: { min_lr: 5e-5 } };
    expect(curve(absolute)).toEqual(curve({ ...rate, learning_rate: 2e-4 }));
  });

  it("starts cosine_warmup_with_min_lr at warmup_lr_rate", () => {
    const lr_scheduler_kwargs = { min_lr_rate: 0.1, warmup_lr_rate: 0.2 };
    expect(curve({ lr_scheduler_type: "cosine_warmup_with_min_lr", lr_scheduler_kwargs, warmup_steps: 3 })[0]).toBe(
      0.2,
    );
  });

  it("raises and lowers warmup_stable_decay between min_lr_ratio and 1", () => {
    const lr_scheduler_kwargs = { num_decay_steps: 4, min_lr_ratio: 0.5, decay_type: "linear", warmup_type: "linear" };
    const factors = curve({ lr_scheduler_type: "warmup_stable_decay", lr_scheduler_kwargs });
    expect(factors).toEqual([0.5, 0.75, 1, 1, 1, 1, 1, 0.875, 0.75, 0.625, 0.5]);
  });

  it("stays finite when warm-up takes the whole run", () => {
    for (const [lr_scheduler_type, lr_scheduler_kwargs] of PYTHON) {
      const factors = curve({ lr_scheduler_type, lr_scheduler_kwargs, warmup_steps: 10 });
      expect(factors.every(Number.isFinite), lr_scheduler_type).toBe(true);
    }
  });

  it.each<[string, Record<string, unknown> | string | null, RegExp]>([
    ["linear", { num_cycles: 2 }, /unknown parameter "num_cycles".*takes none.*linear/],
    ["cosine", { num_cycle: 2 }, /did you mean "num_cycles"/],
    ["cosine", { num_cycles: "2" }, /num_cycles must be a number, got "2"/],
    ["cosine", "num_cycles=2", /expected a mapping or JSON/],
    ["cosine_with_min_lr", null, /min_lr or min_lr_rate is required/],
    ["cosine_with_min_lr", { min_lr: 1e-5, min_lr_rate: 0.1 }, /not both/],
    ["warmup_stable_decay", null, /num_decay_steps is required/],
    ["warmup_stable_decay", { num_decay_steps: 1, decay_type: "sqrt" }, /decay_type must be one of linear/],
    ["polynomial", { lr_end: 1 }, /lr_end \(1\) must be below learning_rate \(1\)/],
    ["inverse_sqrt", { timescale: 0 }, /timescale must be above 0/],
    ["cosin", null, /did you mean "cosine"/],
  ])("%s with %j is refused", (lr_scheduler_type, lr_scheduler_kwargs, message) => {
    const create = () => createScheduler({ ...base, lr_scheduler_type, lr_scheduler_kwargs }, { maxSteps: 10 });
    expect(create).toThrow(UserError);
    expect(create).toThrow(message);
  });
});

describe("warmupSteps", () => {
  it.each([
    [0, 100, 0],
    [0.03, 101, 4],
    [0.5, 3, 2],
    [1, 100, 1],
    [2.9, 100, 2],
    [500, 100, 500],
  ])("%s of %s updates is %s", (warmup, maxSteps, expected) => expect(warmupSteps(warmup, maxSteps)).toBe(expected));
});
