/** The order of data, packing and what changes batches and loss: whole runs and packed rows against Python's. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { loadExamples } from "../src/data/examples.js";
import { groupByLength, lengthGroupedEpoch } from "../src/data/lengthGrouped.js";
import { numpyPermutation } from "../src/data/numpyPermutation.js";
import { epochOrder } from "../src/data/order.js";
import { loadRows } from "../src/data/read.js";
import type { TrainingArgumentsInput } from "../src/index.js";
import { TrainingArguments } from "../src/index.js";
import { collate } from "../src/models/batch.js";
import { flush, liveTensors, manualSeed, setDeterministic } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath, readGoldenJson } from "./support/goldens.js";
import { expectSameCurve, type RunGolden, readRunGolden, trainAs } from "./support/runGoldens.js";

const runs = [
  "group-by-length",
  "label-smoothing",
  "neftune",
  "neftune-dropout-padded",
  "padding-free-neftune-dropout",
  "shuffle-dataset",
  "packing",
  "packing-completion",
  "packing-split",
  "packing-neftune-dropout",
  "packing-without-labels",
];
const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  setDeterministic(false);
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

async function train(golden: RunGolden, more: TrainingArgumentsInput = {}) {
  const output_dir = mkdtempSync(join(tmpdir(), "slimtune-batching-"));
  folders.push(output_dir);
  return trainAs(golden, output_dir, more);
}

describe("whole runs follow Python's", () => {
  it.each(runs)("%s", async (name) => {
    const golden = readRunGolden(name);
    const state = await train(golden);
    expectSameCurve(state, golden);
    for (const [index, expected] of golden.log_history.entries()) {
      const actual = state.log_history[index];
      expect(actual.num_input_tokens_seen).toBe(expected.num_input_tokens_seen);
    }
    expect("train_tokens_per_second" in state.log_history[0]).toBe("num_input_tokens_seen" in golden.log_history[0]!);
  });

  it("with full_determinism and tokenising threads, to the bit as without", async () => {
    const golden = readRunGolden("neftune-dropout-padded");
    const losses = (state: { log_history: { loss: number }[] }) => state.log_history.map(({ loss }) => loss);
    const plain = await train(golden);
    const other = await train(golden, { full_determinism: true, dataloader_num_workers: 2 });
    expect(losses(other)).toEqual(losses(plain));
  });
});

interface PackingGolden {
  data: string;
  args: TrainingArgumentsInput;
  rows: { input_ids: number[]; labels: number[]; seq_lengths?: number[] }[];
  batch_of_first_two: { input_ids: number[][]; labels: number[][]; position_ids?: number[][] };
}

describe("packed rows equal TRL's", () => {
  const goldens = readGoldenJson<Record<string, PackingGolden>>("packing.json");

  it.each(Object.keys(goldens))("%s", async (name) => {
    const { data, args: given, rows, batch_of_first_two: expected } = goldens[name]!;
    const args = new TrainingArguments(given);
    const source = { modelFolder: fixturePath("tiny-llama"), maxPositions: 256, vocabSize: 384 };
    const { sequences: examples } = await loadExamples(
      () => loadRows(fixturePath(`data/${data}`), args),
      source,
      args,
      args.packing,
    );
    if (args.packing) {
      const plain = examples.map(({ inputIds, labels }) => ({ input_ids: [...inputIds], labels: [...labels] }));
      expect(plain).toEqual(rows.map(({ input_ids, labels }) => ({ input_ids, labels })));
    }
    if (args.packing_strategy === "wrapped" && args.packing) return; // TRL does not know where its examples begin
    if (args.packing) expect(examples.map(({ lengths }) => lengths)).toEqual(rows.map((row) => row.seq_lengths));
    const batch = collate(examples.slice(0, 2));
    expect([...batch.inputIds]).toEqual(expected.input_ids.flat());
    expect([...batch.positions]).toEqual(expected.position_ids!.flat());
    const shifted = expected.labels.flat().slice(1);
    const labelled = shifted.flatMap((label, i) => (label === -100 ? [] : [[i, label]]));
    expect([...batch.targetRows].map((row, i) => [row, batch.targets[i]])).toEqual(labelled);
  });
});

interface OrderGolden {
  random: { n: number; seed: number; epochs: number[][] }[];
  group_by_length: { lengths: number[]; batch_size: number; seed: number; order: number[] }[];
  shuffle_dataset: { n: number; seed: number; order: number[] }[];
}

describe("orders equal Python's", () => {
  const goldens = readGoldenJson<OrderGolden>("order.json");

  it.each(goldens.random)("random, $n rows, seed $seed", async ({ n, seed, epochs }) => {
    const args = { seed, data_seed: null, train_sampling_strategy: "random" };
    for (const [epoch, order] of epochs.entries()) expect([...(await epochOrder(n, epoch, args))]).toEqual(order);
  });

  it.each(goldens.group_by_length)("group_by_length, seed $seed", async ({ lengths, batch_size, seed, order }) => {
    manualSeed(seed);
    const drawn = await lengthGroupedEpoch(lengths, batch_size);
    expect([...drawn.order]).toEqual(order);
    const again = await lengthGroupedEpoch(lengths, batch_size, drawn.state);
    expect([...again.order]).toEqual(order);
    expect(again.state).toEqual(drawn.state);
    expect([...groupByLength([0], [5], 8)]).toEqual([0]);
  });

  it.each(goldens.shuffle_dataset)("shuffle_dataset, $n rows, seed $seed", ({ n, seed, order }) => {
    expect([...numpyPermutation(n, seed)]).toEqual(order);
  });
});
