import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { createScheduler } from "./schedulers.js";

interface Golden {
  type: string;
  learning_rate: number;
  kwargs: Record<string, unknown>;
  metrics: number[];
  rates: number[];
}

const goldens: Golden[] = JSON.parse(
  readFileSync(new URL("../../tests/goldens/schedules.json", import.meta.url), "utf8"),
).by_metric;

const follow = (type: string, kwargs: Record<string, unknown>, learning_rate = 2e-3) =>
  createScheduler(
    { lr_scheduler_type: type, lr_scheduler_kwargs: kwargs, learning_rate, warmup_steps: 0 },
    { maxSteps: 100 },
  );

describe("schedules that follow a metric", () => {
  it("have goldens for both", () => {
    expect(new Set(goldens.map(({ type }) => type))).toEqual(new Set(["reduce_lr_on_plateau", "greedy"]));
  });

  it.each(goldens)("$type $kwargs: Python's learning rates", ({ type, kwargs, learning_rate, metrics, rates }) => {
    const { metric, learningRate } = follow(type, kwargs, learning_rate);
    const actual = [learningRate(0)];
    for (const [index, value] of metrics.entries()) {
      metric!.observe(value);
      actual.push(learningRate(index + 1));
    }
    expect(actual).toEqual(rates);
  });

  it.each(goldens)("$type $kwargs: goes on from its state as if it had never stopped", (golden) => {
    const { type, kwargs, learning_rate, metrics, rates } = golden;
    for (let stop = 0; stop < metrics.length; stop++) {
      const before = follow(type, kwargs, learning_rate).metric!;
      for (const value of metrics.slice(0, stop)) before.observe(value);
      const after = follow(type, kwargs, learning_rate).metric!;
      after.restore(JSON.parse(JSON.stringify(before.state())));
      const actual = [after.rate];
      for (const value of metrics.slice(stop)) {
        after.observe(value);
        actual.push(after.rate);
      }
      expect(actual).toEqual(rates.slice(stop));
    }
  });

  it("greedy starts afresh after reset_start reductions at its lowest rate", () => {
    // transformers 5.18: GreedyLR(lr 0.002, patience 0, min_lr 1e-3, factor 0.5, reset_start 2), metric 1 each time
    const { metric } = follow("greedy", { patience: 0, min_lr: 1e-3, factor: 0.5, reset_start: 2 });
    const rates = Array.from({ length: 8 }, () => {
      metric!.observe(1);
      return metric!.rate;
    });
    expect(rates).toEqual([0.004, 0.002, 0.001, 0.002, 0.004, 0.002, 0.001, 0.002]);
  });

  it("a changed learning_rate moves the rate of a resumed run in proportion", () => {
    const before = follow("reduce_lr_on_plateau", { patience: 0, factor: 0.5 }).metric!;
    for (const value of [1, 2]) before.observe(value);
    expect(before.rate).toBe(1e-3);
    const after = follow("reduce_lr_on_plateau", { patience: 0, factor: 0.5 }, 4e-3).metric!;
    after.restore(before.state());
    expect(after.rate).toBe(2e-3);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ["reduce_lr_on_plateau", { factor: 1 }, /factor must be below 1, got 1/],
    ["reduce_lr_on_plateau", { patiense: 1 }, /unknown parameter "patiense" \(did you mean "patience"\?\)/],
    ["reduce_lr_on_plateau", { mode: "least" }, /mode must be one of min, max, got "least"/],
    ["reduce_lr_on_plateau", { warmup: 1 }, /unknown parameter "warmup"/],
    ["greedy", { factor: 1.5 }, /factor must be below 1/],
    ["greedy", { smooth: 1 }, /smooth must be true or false, got 1/],
  ])("%s %j is refused", (type, kwargs, message) => {
    expect(() => follow(type, kwargs)).toThrow(UserError);
    expect(() => follow(type, kwargs)).toThrow(message);
  });
});
