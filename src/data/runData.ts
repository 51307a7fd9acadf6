/** The rows that a run learns from and those that it is measured on, as its config names them; nothing is read at once. */
import { resolveDataset } from "../hub/index.js";
import { UserError } from "../support/errors.js";
import { numpyPermutation } from "./numpyPermutation.js";
import { loadRows } from "./read.js";
import type { Row } from "./row.js";
import { type DatasetInput, type EvalDatasetInput, namedDatasets } from "./sources.js";

export interface DataConfig {
  dataset: DatasetInput;
  eval_dataset?: EvalDatasetInput;
  eval_split?: number;
  max_samples?: number;
}

/** Training arguments of these names. */
interface DataArguments {
  dataset_text_field: string;
  seed: number;
}

/** Rows that are read when they are asked for. */
export type ReadRows = (signal?: AbortSignal) => Promise<readonly Row[]>;

export interface EvaluationRows {
  /** Undefined for the only dataset. */
  name: string | undefined;
  /** What it is called in messages. */
  label: string;
  read: ReadRows;
}

export interface RunData {
  train: ReadRows;
  evaluations: EvaluationRows[];
}

/** @throws UserError for options that do not go together */
export function runData(config: DataConfig, args: DataArguments): RunData {
  const { dataset, eval_dataset, eval_split, max_samples } = config;
  checkCounts(config);
  const read =
    (spec: DatasetInput, label: string): ReadRows =>
    (signal) =>
      loadRows(spec, {
        resolveDatasetPath: resolveDataset,
        dataset_text_field: args.dataset_text_field,
        label,
        max_samples,
        signal,
      });
  const train = read(dataset, "dataset");
  if (eval_split === undefined) {
    const named = eval_dataset === undefined ? [] : namedDatasets(eval_dataset);
    return {
      train,
      evaluations: named.map(({ name, label, dataset }) => ({ name, label, read: read(dataset, label) })),
    };
  }
  if (eval_dataset !== undefined) {
    throw new UserError("eval_split: the config has eval_split and eval_dataset. Remove one of the two.");
  }
  let parts: Promise<{ train: Row[]; held: Row[] }> | undefined;
  const split = (signal?: AbortSignal) =>
    (parts ??= train(signal).then((rows) => holdOut(rows, eval_split, args.seed)));
  return {
    train: async (signal) => (await split(signal)).train,
    evaluations: [{ name: undefined, label: "eval_split", read: async (signal) => (await split(signal)).held }],
  };
}

/** Rows of one dataset, outside of a run. */
export const evaluationRows = (spec: EvalDatasetInput, args: DataArguments, label = "eval_dataset"): EvaluationRows[] =>
  namedDatasets(spec, label).map(({ name, label, dataset }) => ({
    name,
    label,
    read: (signal) =>
      loadRows(dataset, {
        resolveDatasetPath: resolveDataset,
        dataset_text_field: args.dataset_text_field,
        label,
        signal,
      }),
  }));

function checkCounts({ eval_split, max_samples }: DataConfig): void {
  if (max_samples !== undefined && !(Number.isInteger(max_samples) && max_samples > 0)) {
    throw new UserError(`max_samples: expected a whole number of at least 1, got ${max_samples}`);
  }
  if (eval_split !== undefined && !(eval_split > 0 && (eval_split < 1 || Number.isInteger(eval_split)))) {
    throw new UserError(
      `eval_split: expected a share of the rows between 0 and 1, or a number of rows, got ${eval_split}`,
    );
  }
}

/** As `train_test_split` of Python's `datasets` does with this seed: mixed, and the first ones held out. */
function holdOut(rows: readonly Row[], size: number, seed: number): { train: Row[]; held: Row[] } {
  const count = size < 1 ? Math.ceil(size * rows.length) : size;
  if (count >= rows.length) {
    throw new UserError(
      `eval_split: ${size} holds out ${count} of the ${rows.length} rows of dataset, and leaves none to train on. Lower it.`,
    );
  }
  const mixed = Array.from(numpyPermutation(rows.length, seed), (index) => rows[index]!);
  return { train: mixed.slice(count), held: mixed.slice(0, count) };
}
