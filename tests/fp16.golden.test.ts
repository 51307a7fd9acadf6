/** fp16's loss scale and evaluations in 16 bits against PyTorch and transformers. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { evaluateModel } from "../src/index.js";
import { lowPrecision } from "../src/models/precision.js";
import type * as passes from "../src/train/accumulate.js";
import { LossScaler } from "../src/train/lossScaler.js";
import { fixturePath, readGoldenJson } from "./support/goldens.js";
import { expectSameCurve, type RunGolden, trainAs } from "./support/runGoldens.js";

/** Updates of the run at hand, from 0, whose gradients are to overflow. */
let overflowing: readonly number[] = [];
let updates = 0;

vi.mock("../src/train/accumulate.js", async (original) => {
  const actual = await original<typeof passes>();
  const accumulate: typeof passes.accumulate = async (...args) => {
    const result = await actual.accumulate(...args);
    return overflowing.includes(updates++) ? { ...result, gradNorm: Number.POSITIVE_INFINITY } : result;
  };
  return { ...actual, accumulate };
});

interface ScaleGolden {
  overflows: number[];
  updates: number;
  /** [update, scale, good updates in a row] */
  changes: [number, number, number][];
}

it.each(readGoldenJson<ScaleGolden[]>("loss-scale.json"))("the scale moves as GradScaler's: $overflows", (golden) => {
  const scaler = new LossScaler();
  const changes: number[][] = [];
  for (let update = 0; update < golden.updates; update++) {
    const before = scaler.scale;
    if (golden.overflows.includes(update)) scaler.overflow();
    else scaler.good();
    const { scale, growth } = scaler.state;
    if (scale !== before || update === golden.updates - 1) changes.push([update, scale, growth]);
  }
  expect(changes).toEqual(golden.changes);
  expect(scaler.state.overflows).toBe(golden.overflows.length);
});

const runs = readGoldenJson<Record<string, RunGolden & { overflows: number[]; scale: number }>>("fp16-overflow.json");

it.each(Object.entries(runs))("a run with overflows follows the Trainer's: %s", async (_, golden) => {
  [overflowing, updates] = [golden.overflows, 0];
  const output_dir = mkdtempSync(join(tmpdir(), "slimtune-fp16-"));
  const args = { fp16: true, save_strategy: "steps", save_steps: golden.max_steps } as const;
  const state = await trainAs(golden, output_dir, args);
  const checkpoint = join(output_dir, `checkpoint-${golden.max_steps}`, "slimtune_run.json");
  const { tally } = JSON.parse(readFileSync(checkpoint, "utf8"));
  rmSync(output_dir, { recursive: true });
  overflowing = [];
  expectSameCurve(state, golden);
  for (const { step, grad_norm, overflows, loss, loss_scale } of state.log_history) {
    if (loss === undefined) continue;
    const here = golden.overflows.includes(step - 1);
    expect(overflows).toBe(here ? 1 : undefined);
    expect(grad_norm === undefined).toBe(here);
    expect(loss_scale).toBe(65536 / 2 ** golden.overflows.filter((update) => update < step).length);
  }
  expect(state.log_history.at(-1).train_overflows).toBe(golden.overflows.length);
  expect(tally.lossScaler.scale).toBe(golden.scale);
});

interface EvalGolden {
  adapter: boolean;
  argument: "bf16_full_eval" | "fp16_full_eval";
  eval_loss: number;
  /** Of the rounded weights, in float32 arithmetic. */
  eval_loss_rounded: number;
}

describe("evaluation in 16 bits", () => {
  const measure = async (adapter: boolean, training_args: Record<string, boolean>) => {
    const { eval_loss } = await evaluateModel({
      model: fixturePath("tiny-llama"),
      adapter: adapter ? fixturePath("tiny-llama-adapter") : undefined,
      dataset: fixturePath("data/prompt-completion.jsonl"),
      training_args: { per_device_eval_batch_size: 32, ...training_args },
      log: () => {},
    });
    return eval_loss!;
  };

  it.each(readGoldenJson<EvalGolden[]>("full-eval.json"))(
    "$argument, adapter $adapter: rounds every weight, and stays within 0.1 % of transformers",
    async ({ adapter, argument, eval_loss, eval_loss_rounded }) => {
      const actual = await measure(adapter, { [argument]: true });
      expect(Math.abs(actual / eval_loss - 1)).toBeLessThan(1e-3);
      if (lowPrecision(argument === "bf16_full_eval" ? "bfloat16" : "float16", "cpu").compute !== "float32") return;
      const exact = await measure(adapter, {});
      expect(Math.abs(actual - eval_loss_rounded)).toBeLessThan(Math.abs(exact - eval_loss_rounded) / 10);
    },
  );
});
