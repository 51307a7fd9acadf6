import { dirname, resolve } from "node:path";
import type { z } from "zod";
import { checkArguments, fieldNames, TrainingArguments } from "../arguments/index.js";
import { loraSchema } from "../peft/config.js";
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";
import { tell } from "../support/plainText.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { pathText } from "../support/zodProblem.js";
import { takeAliases } from "./aliases.js";
import type { Override } from "./overrides.js";
import { type Resolved, resolveDataset, resolveModel } from "./paths.js";
import { configKeys, configSchema, SECTIONS } from "./schema.js";
import { parseYaml, type YamlFile } from "./yaml.js";

/** Problems that are told at once: a config with more of them is none. */
const MAX_TOLD = 20;

type Checked = Omit<z.output<typeof configSchema>, "training_args" | "$schema">;

/** A checked config: local paths are absolute, hub ids as they were written. */
export interface RunConfig extends Checked {
  training_args: TrainingArguments;
}

interface Problem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** Keys whose absence means something, so that nothing behind them might mean all their defaults, or none of it. */
const UNCLEAR_WHEN_EMPTY = ["lora", "early_stopping"];

/**
 * Reads a config file, or none, and lays the options of the command line over it. A relative path in the file is seen
 * from the file's folder, one on the command line from the current folder; `output_dir` always from the current folder.
 * @param note gets what a person should know: keys of other programs that were taken
 * @throws UserError with every problem, each with its line or its option.
 */
export async function loadConfig(
  file: string | undefined,
  overrides: readonly Override[] = [],
  note: (line: string) => void = tell,
): Promise<RunConfig> {
  const { data, lineOf }: YamlFile =
    file === undefined ? { data: {}, lineOf: () => 0 } : parseYaml(file, await read(file));
  const taken = takeAliases(data);
  moveOverwrite(data);
  for (const override of overrides) apply(data, override);
  // A key with nothing behind it is absent.
  for (const key of Object.keys(data)) if (data[key] === null && !UNCLEAR_WHEN_EMPTY.includes(key)) delete data[key];

  const overridden = (path: readonly PropertyKey[]) =>
    overrides.findLast((override) => override.path.every((key, i) => String(path[i]) === key));
  const locate = ({ path, message }: Problem) => {
    const override = overridden(path);
    if (override !== undefined) return `${override.given}: ${message}`;
    if (file === undefined) return `--${pathText(path).replace(/^training_args\./, "")}: ${message}`;
    const written = taken.origins.get(path.join(".")) ?? path;
    return `${file}:${lineOf(written)}: ${pathText(written)}: ${message}`;
  };
  const folderOf = (path: readonly PropertyKey[]) =>
    file === undefined || overridden(path) !== undefined ? process.cwd() : dirname(resolve(file));

  const { training_args, ...rest } = data;
  const problems: Problem[] = [...taken.problems];
  const checked = configSchema.omit({ training_args: true }).safeParse(rest);
  if (!checked.success) problems.push(...checked.error.issues.flatMap(issueProblems(rest)));
  problems.push(...argumentProblems(training_args));
  if (checked.success) problems.push(...resolvePaths(checked.data, folderOf));
  if (problems.length > 0 || !checked.success) {
    const told = problems.slice(0, MAX_TOLD).map(locate);
    if (problems.length > MAX_TOLD) told.push(`and ${problems.length - MAX_TOLD} more`);
    const issues = problems.map(({ path, message }) => ({ path: pathText(path), message }));
    throw new UserError(told.join("\n"), { code: "invalid_config", issues });
  }

  for (const line of taken.notes) note(line);
  const { $schema: _, ...config } = checked.data;
  return { ...config, training_args: new TrainingArguments(training_args ?? {}) };
}

/** transformers 4 had it among the training arguments. */
function moveOverwrite(data: Record<string, unknown>): void {
  const args = data.training_args as Record<string, unknown> | null | undefined;
  if (typeof args !== "object" || args === null || !Object.hasOwn(args, "overwrite_output_dir")) return;
  data.overwrite_output_dir ??= args.overwrite_output_dir;
  delete args.overwrite_output_dir;
}

async function read(file: string): Promise<string> {
  try {
    return (await readRegularFile(file, FILE_LIMITS.run)).toString();
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new UserError(`${file}: there is no such config file`);
    throw new UserError(`${file}: cannot be read: ${message}`);
  }
}

function apply(data: Record<string, unknown>, { given, path, value }: Override): void {
  if (path.length === 1 && UNCLEAR_WHEN_EMPTY.includes(path[0])) {
    // on a command line it is clear: `--lora null` is without, `--lora true` with the defaults
    if (value === null || value === false) {
      delete data[path[0]];
      return;
    }
    if (value === true) {
      data[path[0]] ??= {};
      return;
    }
  }
  let target = data;
  for (const key of path.slice(0, -1)) {
    const inner = Object.hasOwn(target, key) ? target[key] : undefined;
    if (inner !== undefined && inner !== null && (typeof inner !== "object" || Array.isArray(inner))) {
      throw new UserError(`${given}: ${key} is ${JSON.stringify(inner)} in the config file, which has no keys to set`);
    }
    const next = (inner ?? {}) as Record<string, unknown>;
    target[key] = next;
    target = next;
  }
  target[path.at(-1)!] = value;
}

/** Problems of one zod issue, in words for a person. Schemas with words of their own are left to them. */
const issueProblems =
  (input: Record<string, unknown>) =>
  (issue: z.core.$ZodIssue): Problem[] => {
    const { path, message } = issue;
    if (issue.code === "unrecognized_keys" && path.length === 0) {
      return issue.keys.map((key) => ({ path: [key], message: unknownKey(key) }));
    }
    const known = keysOf[String(path[0])];
    if (issue.code === "unrecognized_keys" && known) {
      return issue.keys.map((key) => ({ path: [...path, key], message: `unknown key${didYouMean(key, known)}` }));
    }
    const value = path.reduce<unknown>((object, key) => (object as Record<PropertyKey, unknown>)?.[key], input);
    if (path[0] === "lora" && path.length === 1 && value === null) {
      const choices = "give its options, {} for the defaults, or remove the key to train all weights";
      return [{ path, message: `is empty: ${choices}` }];
    }
    if (value === undefined && path.length === 1 && path[0] === "dataset") {
      return [{ path, message: "is required: the path of the examples to learn, or a hub id" }];
    }
    const zodsOwn = /^(?:Invalid input|Invalid option|Too small|Too big)(?:: (.*?)(?:, received .*)?)?$/.exec(message);
    if (zodsOwn === null) return [{ path, message }];
    const expected = zodsOwn[1] ?? (path[0] === "lora" ? loraHelp(path) : "a value that fits");
    return [{ path, message: `${expected}, got ${JSON.stringify(value) ?? "nothing"}` }];
  };

const keysOf: Record<string, string[]> = Object.fromEntries(
  Object.entries(SECTIONS).map(([name, { shape }]) => [name, Object.keys(shape)]),
);

/** What an option of `lora` takes, where zod only says that the value is not it. */
function loraHelp(path: readonly PropertyKey[]): string {
  const option = loraSchema.shape[path[1] as keyof typeof loraSchema.shape];
  return `expected ${(option?.description ?? "another value").replace(/\.$/, "")}`;
}

const unknownKey = (key: string) =>
  `unknown key${didYouMean(key, [...configKeys, ...fieldNames])}; keys are ${configKeys.join(", ")}, and the training arguments`;

function argumentProblems(args: unknown): Problem[] {
  if (args === undefined) return [];
  if (typeof args !== "object" || args === null || Array.isArray(args)) {
    return [{ path: ["training_args"], message: `expected names and values, got ${JSON.stringify(args)}` }];
  }
  return checkArguments(args as Record<string, unknown>).problems.map(({ name, message }) => ({
    path: ["training_args", name],
    message: configKeys.includes(name) ? "belongs at the top level of the config, beside training_args" : message,
  }));
}

/** Replaces local paths by absolute ones, in place. */
function resolvePaths(config: Checked, folderOf: (path: readonly PropertyKey[]) => string): Problem[] {
  const problems: Problem[] = [];
  type Resolver = (value: string, folder: string) => Resolved;
  const visit = (holder: Record<PropertyKey, unknown>, key: PropertyKey, path: PropertyKey[], resolver: Resolver) => {
    const value = holder[key];
    if (typeof value === "string") {
      const resolved = resolver(value, folderOf(path));
      if ("problem" in resolved) problems.push({ path, message: resolved.problem });
      else holder[key] = resolved.value;
    } else if (Array.isArray(value)) {
      for (const i of value.keys()) visit(value as unknown as Record<PropertyKey, unknown>, i, [...path, i], resolver);
    } else if (typeof value === "object" && value !== null) {
      const held = value as Record<PropertyKey, unknown>;
      for (const key of Object.hasOwn(held, "path") ? ["path"] : Object.keys(held))
        visit(held, key, [...path, key], resolver);
    }
  };
  const holder = config as unknown as Record<PropertyKey, unknown>;
  for (const key of ["model", "adapter"]) visit(holder, key, [key], resolveModel);
  for (const key of ["dataset", "eval_dataset"]) visit(holder, key, [key], resolveDataset);
  return problems;
}
