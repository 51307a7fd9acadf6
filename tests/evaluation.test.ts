/** Evaluation by its own rules: what does not change a metric, what does, and what it leaves alone. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { evaluate } from "../src/evaluate/evaluate.js";
import { type ComputeMetrics, type EvaluatedExample, evaluateModel, loadGenerator, UserError } from "../src/index.js";
import { collate, type Sequence } from "../src/models/batch.js";
import type { CausalLM } from "../src/models/causalLM.js";
import { loadCausalLM } from "../src/models/load.js";
import { flush, liveTensors, manualSeed, ops, rngState, scope } from "../src/torch/index.js";
import { fixturePath } from "./support/goldens.js";

const MODEL = fixturePath("tiny-llama");
const DATA = fixturePath("data/prompt-completion.jsonl");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "slimtune-evaluate-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

const rowsOf = (...lengths: number[]): Sequence[] =>
  lengths.map((length, row) => {
    const inputIds = Int32Array.from({ length }, (_, i) => (7 * row + 3 * i) % 100);
    return { inputIds, labels: inputIds.map((id, i) => (i < row ? -100 : id)) };
  });

async function withModel<T>(body: (model: CausalLM) => Promise<T>): Promise<T> {
  const model = await loadCausalLM(MODEL);
  try {
    return await body(model);
  } finally {
    model.dispose();
  }
}

const plain = { batchSize: 3, lossOnly: false, labelSmoothing: 0 };

/** Softmax over a row of logits in float64. */
function probabilities(logits: Float32Array): number[] {
  const highest = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

describe("evaluate", () => {
  it("gives what the logits say, for each smoothing and batch size", () =>
    withModel(async (model) => {
      const examples = rowsOf(9, 4, 1, 12, 6);
      const sums = { nll: 0, spread: 0, entropy: 0, hits: 0, tokens: 0 };
      for (const example of examples) {
        const batch = collate([example]);
        const vocabulary = model.description.vocabSize;
        const logits = model.logits(batch);
        const values = (await logits.values()) as Float32Array;
        logits.dispose();
        for (const [place, row] of batch.targetRows.entries()) {
          const p = probabilities(values.subarray(row * vocabulary, (row + 1) * vocabulary));
          sums.nll -= Math.log(p[batch.targets[place]!]!);
          sums.spread -= p.reduce((sum, value) => sum + Math.log(value), 0) / vocabulary;
          sums.entropy -= p.reduce((sum, value) => sum + value * Math.log(value), 0);
          if (p.indexOf(Math.max(...p)) === batch.targets[place]) sums.hits++;
          sums.tokens++;
        }
      }
      const { nll, spread, entropy, hits, tokens } = sums;
      for (const batchSize of [1, 2, 5, 8]) {
        for (const labelSmoothing of [0, 0.1]) {
          const metrics = (await evaluate({ model, sequences: examples, ...plain, batchSize, labelSmoothing }))!;
          const loss = ((1 - labelSmoothing) * nll + labelSmoothing * spread) / tokens;
          expect(metrics.eval_loss).toBeCloseTo(loss, 4);
          expect(metrics.eval_perplexity! / Math.exp(nll / tokens)).toBeCloseTo(1, 4);
          expect(metrics.eval_entropy).toBeCloseTo(entropy / tokens, 4);
          expect(metrics.eval_mean_token_accuracy).toBe(hits / tokens);
          expect(metrics.eval_steps_per_second! / metrics.eval_samples_per_second!).toBeCloseTo(
            Math.ceil(5 / batchSize) / 5,
            9,
          );
        }
      }
    }));

  it("does not see one packed example from another", () =>
    withModel(async (model) => {
      const [a, b] = rowsOf(9, 12) as [Sequence, Sequence];
      const join = (pick: (row: Sequence) => Int32Array) => Int32Array.from([...pick(a), ...pick(b)]);
      const packed = {
        inputIds: join(({ inputIds }) => inputIds),
        labels: join(({ labels }) => labels),
        lengths: [9, 12],
      };
      const together = (await evaluate({ model, sequences: [packed], ...plain }))!;
      const apart = (await evaluate({ model, sequences: [a, b], ...plain }))!;
      expect(together.eval_loss).toBeCloseTo(apart.eval_loss!, 5);
      expect(together.eval_entropy).toBeCloseTo(apart.eval_entropy!, 5);
    }));

  it("tells a metric function about each token where the model is measured", () =>
    withModel(async (model) => {
      const examples = rowsOf(5, 1, 7);
      let seen: readonly EvaluatedExample[] = [];
      const compute = (evaluated: readonly EvaluatedExample[]) => {
        seen = evaluated;
        return { twice: 2, eval_mine: 1 };
      };
      const metrics = (await evaluate({ model, sequences: examples, ...plain, batchSize: 2, compute }))!;
      expect(metrics).toMatchObject({ eval_twice: 2, eval_mine: 1 });
      expect(seen.map(({ inputIds }) => inputIds)).toEqual(examples.map(({ inputIds }) => inputIds));
      // Nothing predicts a first token, and row r has r masked ones.
      expect(Array.from(seen[0]!.labels)).toEqual([-100, ...examples[0]!.inputIds.subarray(1)]);
      expect(Array.from(seen[1]!.labels)).toEqual([-100]);
      expect(Array.from(seen[2]!.labels.subarray(0, 3))).toEqual([-100, -100, examples[2]!.inputIds[2]]);
      let [loss, hits, tokens] = [0, 0, 0];
      for (const { labels, predictions, losses } of seen) {
        for (const [i, label] of labels.entries()) {
          expect(predictions[i] === -100).toBe(label === -100);
          expect(losses[i]! > 0).toBe(label !== -100);
          if (label === -100) continue;
          tokens++;
          loss += losses[i]!;
          if (label === predictions[i]) hits++;
        }
      }
      expect(loss / tokens).toBeCloseTo(metrics.eval_loss!, 9);
      expect(hits / tokens).toBe(metrics.eval_mean_token_accuracy);
    }));

  it("with lossOnly tells the loss only", () =>
    withModel(async (model) => {
      const compute = () => {
        throw new Error("must not be called");
      };
      const metrics = (await evaluate({ model, sequences: rowsOf(4, 5), ...plain, lossOnly: true, compute }))!;
      expect(Object.keys(metrics)).toEqual([
        ...["eval_loss", "eval_perplexity", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"],
      ]);
    }));

  it("draws one number, whatever a metric function draws, and none when it was stopped", () =>
    withModel(async (model) => {
      const task = { model, sequences: rowsOf(4, 5, 6, 7), ...plain, batchSize: 1 };
      manualSeed(5);
      const before = await rngState();
      scope(() => ops.random_(ops.empty([], "int64")));
      const once = await rngState();
      manualSeed(5);
      const compute = () => {
        scope(() => ops.uniform_(ops.empty([100]), 0, 1));
        return {};
      };
      await evaluate({ ...task, compute });
      expect(await rngState()).toEqual(once);
      manualSeed(5);
      const seen: string[] = [];
      const stopped = await evaluate({
        ...task,
        onBatch: (batch, batches) => void seen.push(`${batch}/${batches}`),
        stopRequested: () => seen.length === 2,
      });
      expect(stopped).toBeUndefined();
      expect(seen).toEqual(["1/4", "2/4"]);
      expect(await rngState()).toEqual(before);
    }));

  it("names the example whose loss is no number", () =>
    withModel(async (model) => {
      const { tensor } = model.parameters.get("lm_head.weight")!;
      scope(() => ops.copy_(ops.narrow(tensor, 0, 50, 1), ops.float32([Number.NaN], [1, 1])));
      const failing = evaluate({ model, sequences: rowsOf(4, 5), ...plain });
      await expect(failing).rejects.toThrow(/eval_loss: .* on example 0 of eval_dataset is NaN/);
    }));

  it.each<[unknown, RegExp]>([
    [5, /computeMetrics: expected an object of numbers by name, got 5/],
    [{ f1: Number.NaN }, /computeMetrics: f1 is NaN; a metric must be a finite number/],
    [{ f1: "0.5" }, /computeMetrics: f1 is 0.5; a metric must be a finite number/],
  ])("refuses %j of a metric function", (result, message) =>
    withModel(async (model) => {
      const failing = evaluate({
        model,
        sequences: rowsOf(4),
        ...plain,
        compute: () => result as Record<string, number>,
      });
      await expect(failing).rejects.toThrow(UserError);
      await expect(evaluate({ model, sequences: rowsOf(4), ...plain, compute: () => result as never })).rejects.toThrow(
        message,
      );
    }),
  );
});

describe("evaluateModel", () => {
  it("gives a metric function the tokenizer and the model's answers", async () => {
    const prompts = ["The cat", "One and one"];
    const generator = await loadGenerator({ model: MODEL });
    const expected = await generator.complete(prompts, { max_new_tokens: 4 });
    generator.dispose();
    let answers: string[] = [];
    let text = "";
    const computeMetrics: ComputeMetrics = async ({ examples, decode, generate }) => {
      answers = await generate(prompts, { max_new_tokens: 4 });
      text = await decode(examples[0]!.inputIds);
      return { answers: answers.length };
    };
    const metrics = await evaluateModel({ model: MODEL, dataset: DATA, computeMetrics });
    expect(metrics.eval_answers).toBe(2);
    expect(answers).toEqual(expected);
    expect(text.length).toBeGreaterThan(10);
  });

  it("measures an adapter, which is not the model alone", async () => {
    const alone = await evaluateModel({ model: MODEL, dataset: DATA });
    const adapted = await evaluateModel({ model: MODEL, adapter: fixturePath("tiny-llama-adapter"), dataset: DATA });
    expect(Math.abs(adapted.eval_loss! - alone.eval_loss!)).toBeGreaterThan(1e-3);
  });

  it("says that it is the evaluation's dataset that is wrong", async () => {
    const empty = join(folder, "empty.jsonl");
    writeFileSync(empty, "");
    await expect(evaluateModel({ model: MODEL, dataset: empty })).rejects.toThrow(/^eval_dataset: .*empty/);
  });
});
