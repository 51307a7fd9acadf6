/** A config that a program writes, checked at once. */
import { TrainingArguments } from "../arguments/index.js";
import { runData } from "../data/runData.js";
import { quantizationSchema } from "../models/quantization.js";
import { loraSchema } from "../peft/config.js";
import { UserError } from "../support/errors.js";
import { pathText } from "../support/zodProblem.js";
import { healthSchema } from "../train/health/config.js";
import type { TrainerConfig } from "../train/trainer.js";

const SECTIONS = { lora: loraSchema, quantization: quantizationSchema, health: healthSchema };

/**
 * The same config, with its type for the editor: for a config in a module of its own, or as a base of several runs.
 * @throws UserError with every problem of its arguments and sections in `issues`; files are not looked at
 */
export function defineConfig<const C extends TrainerConfig>(config: C): C {
  const issues: { path: string; message: string }[] = [];
  const attempt = (check: () => unknown) => {
    try {
      check();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      issues.push(...error.issues);
    }
  };
  const { training_args } = config;
  let args: TrainingArguments | undefined;
  attempt(() => {
    args = training_args instanceof TrainingArguments ? training_args : new TrainingArguments(training_args);
  });
  for (const [key, schema] of Object.entries(SECTIONS)) {
    const value = config[key as keyof typeof SECTIONS];
    const checked = value === undefined ? undefined : schema.safeParse(value);
    for (const { path, message } of checked?.error?.issues ?? []) {
      issues.push({ path: pathText([key, ...path]), message });
    }
  }
  attempt(() => runData(config, args ?? new TrainingArguments()));
  if (issues.length === 0) return config;
  throw new UserError(issues.map(({ path, message }) => `${path}: ${message}`).join("\n"), {
    code: "invalid_config",
    issues,
  });
}
