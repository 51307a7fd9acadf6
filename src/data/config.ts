import { z } from "zod";
import { didYouMean } from "../support/nearest.js";
import { pathText } from "../support/zodProblem.js";

export const DATASET_FORMATS = ["auto", "text", "prompt_completion", "messages", "alpaca", "sharegpt"] as const;
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
};

/** Our names for what a row holds, each with the file's own column name. */
const columnsSchema = z.strictObject(columns, { error: (issue) => unknownKey(issue, Object.keys(columns)) });

const entry = {
  path: z
    .string()
    .min(1)
    .describe("A .jsonl or .json file, a folder of them, a glob (data/*.jsonl), or the id of a hub dataset."),
  name: z
    .string()
    .min(1)
    .optional()
    .describe("Configuration of a hub dataset. Default: the only one, or the one its card marks as the default."),
  split: z
    .string()
    .min(1)
    .optional()
    .describe("Split of a hub dataset, or of a folder whose files are named after their split. Default: train."),
  format: z
    .enum(DATASET_FORMATS)
    .default("auto")
    .describe("Shape of the rows. auto: told from the columns of the first row."),
  columns: columnsSchema
    .optional()
    .describe("The file's columns by our names, for instance {prompt: question, completion: answer}."),
  weight: z
    .number()
    .optional()
    .refine((weight) => weight === undefined || weight === 1, {
      error: "other than 1 is not built yet: rows are used once per epoch; remove it",
    })
    .describe("Share of this dataset among several. Only 1 is built."),
};

/** One dataset: a mapping of the config's `dataset` or `eval_dataset`. */
const datasetEntrySchema = z.strictObject(entry, { error: (issue) => unknownKey(issue, Object.keys(entry)) });
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

export type DatasetEntry = z.infer<typeof datasetEntrySchema>;
export type DatasetSpec = z.input<typeof datasetSchema>;

/** The datasets of a checked spec, in order, each as a mapping with its defaults filled in. */
export function datasetEntries(spec: DatasetSpec): DatasetEntry[] {
  const list = Array.isArray(spec) ? spec : [spec];
  return list.map((entry) => datasetEntrySchema.parse(typeof entry === "string" ? { path: entry } : entry));
}

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
  return meant.map(({ path, message }) => (path.length === 0 ? message : `${pathText(path)}: ${message}`)).join("; ");
}
