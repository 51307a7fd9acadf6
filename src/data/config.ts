import { z } from "zod";
import { didYouMean } from "../support/nearest.js";
import { pathText } from "../support/zodProblem.js";
import { splitProblem } from "./splitSlice.js";

export const DATASET_FORMATS = [
  "auto",
  "text",
  "prompt_completion",
  "messages",
  "alpaca",
  "sharegpt",
  "tokenized",
] as const;
/** Shape of the rows; auto: told from the columns of the first one. */
export type DatasetFormat = (typeof DATASET_FORMATS)[number];

const roleColumn = (help: string) => z.string().min(1).optional().describe(help);

const columns = {
  text: roleColumn("Column of a whole text to learn."),
  prompt: roleColumn("Column of the prompt: a text, or a list of messages."),
  completion: roleColumn("Column of the answer to the prompt: a text, or a list of messages."),
  messages: roleColumn("Column of a conversation: a list of {role, content}, or of {from, value}."),
  conversations: roleColumn("Column of a ShareGPT conversation: a list of {from, value}."),
  instruction: roleColumn("Column of Alpaca's instruction."),
  input: roleColumn("Column of Alpaca's input, which may be empty."),
  output: roleColumn("Column of Alpaca's output."),
  tools: roleColumn("Column of the tools of a conversation: a list of JSON schemas, or its JSON text."),
  input_ids: roleColumn("Column of token ids, for rows that are tokenised already."),
  labels: roleColumn("Column of their labels: the token's id, or -100 where nothing is learned."),
};

/** Our names for what a row holds, each with the file's own column name. */
export type DatasetColumns = { [name in keyof typeof columns]?: string };

const columnsSchema = z.strictObject(columns, { error: (issue) => unknownKey(issue, Object.keys(columns)) });

const entry = {
  path: z
    .string()
    .min(1)
    .describe(
      "A .jsonl, .json or .csv file (also .gz), a folder of them, a glob (data/*.jsonl), or the id of a hub dataset.",
    ),
  name: z
    .string()
    .min(1)
    .optional()
    .describe("Configuration of a hub dataset. Default: the only one, or the one its card marks as the default."),
  split: z
    .string()
    .min(1)
    .optional()
    .superRefine((split, context) => {
      const problem = split === undefined ? undefined : splitProblem(split);
      if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
    })
    .describe(
      "Split of a hub dataset, or of a folder whose files are named after their split. Default: train. A slice of it, or of a file, as in Python: train[:80%], train[-100:], train[:10%]+train[90%:].",
    ),
  format: z
    .enum(DATASET_FORMATS)
    .default("auto")
    .describe("Shape of the rows. auto: told from the columns of the first row."),
  columns: columnsSchema
    .optional()
    .describe("The file's columns by our names, for instance {prompt: question, completion: answer}."),
  max_samples: z.int().min(1).optional().describe("No more than its first so many rows."),
  weight: z
    .number()
    .optional()
    .refine((weight) => weight === undefined || weight === 1, {
      error: "other than 1 is not built yet: rows are used once per epoch; remove it",
    })
    .describe("Share of this dataset among several. Only 1 is built."),
};

export const ENTRY_KEYS = Object.keys(entry);

/** One dataset: a mapping of the config's `dataset` or `eval_dataset`. */
const datasetEntrySchema = z.strictObject(entry, { error: (issue) => unknownKey(issue, ENTRY_KEYS) });
const pathSchema = z.string().min(1, { error: "must not be empty" });

/** The value of `dataset` and `eval_dataset` in a config. */
export const datasetSchema = z
  .union(
    [
      pathSchema,
      datasetEntrySchema,
      z
        .array(z.union([pathSchema, datasetEntrySchema], { error: explainUnion }))
        .min(1, { error: "needs at least one dataset" }),
    ],
    { error: explainUnion },
  )
  .describe("What to train on: a path, a glob, a hub id, a mapping {path, format, columns, ...}, or a list of them.");

/** The value of `eval_dataset` in a config: a dataset, or several by name. */
export const evalDatasetSchema = z
  .union(
    [
      datasetSchema,
      z
        .record(z.string().regex(/^[\w.-]+$/, { error: "a name has letters, digits, _, - and ." }), datasetSchema)
        .refine((named) => !ENTRY_KEYS.some((key) => Object.hasOwn(named, key)), {
          error: ({ input }) =>
            `has ${ENTRY_KEYS.filter((key) => Object.hasOwn(input as object, key)).join(", ")} of one dataset, but no path; no dataset among several can have such a name`,
        })
        .refine((named) => Object.keys(named).length > 0, { error: "names no dataset" }),
    ],
    {
      error: (issue) => {
        const { input, errors = [] } = issue as RawIssue;
        const named = typeof input === "object" && input !== null && !Array.isArray(input);
        const meant = named && !ENTRY_KEYS.some((key) => Object.hasOwn(input, key)) ? errors[1] : errors[0];
        return told(meant ?? []);
      },
    },
  )
  .describe(
    "What to measure on: as dataset, or a mapping of names to datasets, whose metrics are then eval_NAME_loss and so on.",
  );

export type DatasetEntry = z.infer<typeof datasetEntrySchema>;

/** Files or a hub dataset, and how to read them. */
export interface FileDataset {
  /** A .jsonl, .json or .csv file (also .gz), a folder of them, a glob (`data/*.jsonl`), or the id of a hub dataset. */
  path: string;
  /** Configuration of a hub dataset. Default: the only one, or the one its card marks as the default. */
  name?: string;
  /** Split of a hub dataset or a folder, or a slice of it or of a file: `train[:80%]`. Default: train. */
  split?: string;
  /** Shape of the rows. Default: told from the columns of the first row. */
  format?: DatasetFormat;
  /** The file's columns by our names: `{ prompt: "question", completion: "answer" }`. */
  columns?: DatasetColumns;
  /** No more than its first so many rows. */
  max_samples?: number;
  /** Only 1: rows are used once per epoch. */
  weight?: number;
}

/** What `dataset` is in a config file: a path, a pattern or a hub id, a mapping, or a list of them. */
export type DatasetSpec = string | FileDataset | (string | FileDataset)[];

/** The datasets of a checked spec, in order, each as a mapping with its defaults filled in. */
export function datasetEntries(spec: DatasetSpec): DatasetEntry[] {
  return (Array.isArray(spec) ? spec : [spec]).map(entryOf);
}

export const entryOf = (entry: Exclude<DatasetSpec, unknown[]>): DatasetEntry =>
  datasetEntrySchema.parse(typeof entry === "string" ? { path: entry } : entry);

type RawIssue = { code: string; input?: unknown; keys?: string[]; errors?: z.core.$ZodIssue[][] };

function unknownKey(issue: unknown, known: string[]): string | undefined {
  const { code, keys } = issue as RawIssue;
  if (code !== "unrecognized_keys" || keys === undefined) return undefined;
  return `has no key ${keys.map((key) => `"${key}"${didYouMean(key, known)}`).join(", ")}; keys are ${known.join(", ")}`;
}

/** A union says only "invalid input": tell what is wrong with the one alternative that was meant. */
function explainUnion(issue: unknown): string {
  const { input, errors = [] } = issue as RawIssue;
  const expected = "must be a path, a mapping {path, format, columns, ...} or a list of them";
  if (typeof input !== "object" || input === null) return `${expected}, not ${JSON.stringify(input) ?? typeof input}`;
  const meant = errors[Array.isArray(input) ? 2 : 1] ?? [];
  if (meant.length === 0) return expected;
  return told(meant);
}

const told = (issues: readonly z.core.$ZodIssue[]) =>
  issues.map(({ path, message }) => (path.length === 0 ? message : `${pathText(path)}: ${message}`)).join("; ");
