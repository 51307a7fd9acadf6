import { z } from "zod";
import { trainingArgumentsSchema } from "../arguments/index.js";
import { earlyStoppingSchema } from "../callbacks/earlyStopping.js";
import { datasetSchema, evalDatasetSchema } from "../data/config.js";
import { quantizationSchema } from "../models/quantization.js";
import { loraSchema } from "../peft/config.js";
import { healthSchema } from "../train/health/config.js";

const required = (what: string) => (issue: { input?: unknown }) =>
  issue.input === undefined ? `is required: ${what}` : `expected ${what}`;

const MODEL = "the path of a model folder in Hugging Face format, or a hub id such as org/name";

/** The config file of `slimtune train`. `training_args` is checked against the table, which says more. */
export const configSchema = z.strictObject({
  $schema: z.string().optional().describe("For editors: where this schema is. It changes nothing."),
  model: z
    .string({ error: required(MODEL) })
    .min(1)
    .describe(`The model to fine-tune: ${MODEL}.`),
  adapter: z
    .string({ error: required("the path of a PEFT adapter, or a hub id") })
    .min(1)
    .optional()
    .describe("A PEFT adapter to go on training: a path or a hub id."),
  dataset: datasetSchema,
  eval_dataset: evalDatasetSchema.optional(),
  eval_split: z
    .number({ error: "expected a share below 1, or a number of rows" })
    .positive()
    .refine((size) => size < 1 || Number.isInteger(size), {
      error: "expected a share below 1, or a whole number of rows",
    })
    .optional()
    .describe(
      "Rows of dataset to hold out and measure on, instead of eval_dataset: a share below 1, or a number of rows. Drawn with seed, as train_test_split in Python.",
    ),
  max_samples: z
    .int({ error: "expected a whole number of rows" })
    .min(1)
    .optional()
    .describe("Of each dataset, no more than its first so many rows."),
  health: healthSchema
    .optional()
    .describe("What to do about numbers and data that would spoil the run; docs/monitoring.md explains it."),
  lora: loraSchema.optional().describe("Train a LoRA adapter. Absent: all weights are trained."),
  quantization: quantizationSchema.optional(),
  device: z
    .enum(["cpu", "cuda"], { error: "expected cpu or cuda" })
    .optional()
    .describe("Where to compute: cuda fails where there is no GPU. Absent: on a GPU where there is one."),
  early_stopping: earlyStoppingSchema
    .optional()
    .describe("End the run when evaluations stop getting better: {patience, threshold}. {} for the defaults."),
  overwrite_output_dir: z
    .boolean()
    .optional()
    .describe(
      "Move an earlier run in output_dir aside, to output_dir.1, .2, ..., and begin a new one. Nothing is deleted.",
    ),
  profile: z
    .string({ error: "expected the path of a file to write" })
    .min(1)
    .optional()
    .describe("Write a Chrome trace of the first 20 updates into this file, and say where their time went."),
  training_args: trainingArgumentsSchema
    .optional()
    .describe("Names, defaults and meaning of Hugging Face's TrainingArguments, with the data options of SFTConfig."),
});

/** The keys that hold options of their own. */
export const SECTIONS: Readonly<Record<string, z.ZodObject>> = {
  lora: loraSchema,
  quantization: quantizationSchema,
  health: healthSchema,
  early_stopping: earlyStoppingSchema,
};

export const configKeys = Object.keys(configSchema.shape).filter((key) => key !== "$schema");

/** JSON Schema of the config file, for editors. */
export function configJsonSchema(): object {
  return {
    ...z.toJSONSchema(configSchema, { io: "input", unrepresentable: "any" }),
    title: "slimtune config file",
  };
}
