import { parse } from "yaml";
import type { z } from "zod";
import { fieldNames, fieldOf, OLD_NAMES } from "../arguments/index.js";
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";
import { otherProgramsKey, renamedPath } from "./aliases.js";
import { configKeys, configSchema, SECTIONS } from "./schema.js";

/** One `--name value` of the command line. */
export interface Override {
  /** As typed, for messages. */
  readonly given: string;
  /** Where it goes in the config. */
  readonly path: readonly [string, ...string[]];
  readonly value: unknown;
}

/** Keys of the config whose values are names of files or of things on a hub. */
const NAMES = new Set(["model", "adapter", "dataset", "eval_dataset"]);

const BOOLEANS: Record<string, boolean> = {
  ...{ true: true, yes: true, y: true, t: true, 1: true },
  ...{ false: false, no: false, n: false, f: false, 0: false },
};

/**
 * The words behind `slimtune train`: one config file, and options; or the options alone, which name a model and data.
 * @throws UserError as `parseWords` does, and where there is nothing or a second config file.
 */
export function parseCommandLine(words: readonly string[]): { config?: string; overrides: Override[] } {
  const { files, overrides } = parseWords(words);
  const [config, second] = files;
  if (config === undefined && overrides.length === 0) {
    throw new UserError(
      "nothing to train: give a config file (npx slimtune train config.yaml), or --model FOLDER --dataset FILE",
    );
  }
  if (second !== undefined) {
    throw new UserError(
      `unexpected "${second}" on the command line: there is one config file, "${config}", and --name value. A value with spaces needs quotes.`,
    );
  }
  return { config, overrides };
}

/**
 * Splits words into files and options `--name value`, `--name=value` or, for switches, `--name`. A name is a training
 * argument, a key of the config, or a path into one (`--lora.r`); dashes and underscores are the same.
 * @throws UserError on an unknown name or a missing value.
 */
export function parseWords(words: readonly string[]): { files: string[]; overrides: Override[] } {
  const overrides: Override[] = [];
  const files: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (/^-[a-zA-Z]/.test(word))
      throw new UserError(`unknown option ${word}: options have two dashes, as --${word.slice(1)}`);
    if (!word.startsWith("--")) {
      files.push(word);
      continue;
    }
    const equals = word.indexOf("=");
    const given = equals < 0 ? word : word.slice(0, equals);
    const path = targetOf(given);
    if (equals >= 0) {
      overrides.push({ given, path, value: readWord(path, word.slice(equals + 1)) });
      continue;
    }
    const next = words[i + 1];
    const section = isSection(path);
    const isSwitch = section || schemaOf(path)?.safeParse(true).success === true;
    // A switch takes the next word only when that says yes or no: `--bf16 config.yaml` is a switch and a file.
    const takesNext =
      next !== undefined &&
      !next.startsWith("--") &&
      (section ? isSectionText(next) : !isPureSwitch(path) || isBooleanText(next));
    if (takesNext) {
      overrides.push({ given, path, value: readWord(path, next) });
      i++;
    } else if (isSwitch) {
      overrides.push({ given, path, value: true });
    } else {
      throw new UserError(`${given} needs a value: ${given} VALUE`);
    }
  }
  return { files, overrides };
}

function targetOf(given: string): [string, ...string[]] {
  const [first = "", ...rest] = given.slice(2).split(".");
  const name = first.replaceAll("-", "_");
  const inner = rest.map((part) => part.replaceAll("-", "_"));
  // Setting it would change the object that holds the options, and none of them.
  if (inner.includes("__proto__")) throw new UserError(`unknown option ${given}: no option is named __proto__`);
  if (configKeys.includes(name)) return [name, ...inner];
  if (inner.length === 0) {
    if (fieldOf(name) !== undefined || Object.hasOwn(OLD_NAMES, name)) return ["training_args", name];
    const section = Object.keys(SECTIONS).find((key) => Object.hasOwn(SECTIONS[key]!.shape, name));
    if (section !== undefined) throw new UserError(`unknown option ${given}: write --${section}.${name}`);
    const renamed = renamedPath(name);
    if (renamed !== undefined) return [...renamed];
    const advice = otherProgramsKey(name);
    if (advice !== undefined) throw new UserError(`unknown option ${given}: ${advice}`);
  }
  const names = [...configKeys, ...fieldNames, ...Object.keys(OLD_NAMES)];
  throw new UserError(`unknown option ${given}${didYouMean(name, names)}; npx slimtune train --help lists them all`);
}

/** What a value at this path is checked with, where that is known before the whole config is. */
function schemaOf(path: readonly string[]): z.ZodType | undefined {
  const [first = "", inner] = path;
  if (inner === undefined) return configSchema.shape[first as keyof typeof configSchema.shape];
  if (first === "training_args") return fieldOf(inner)?.schema;
  return path.length === 2 ? SECTIONS[first]?.shape[inner] : undefined;
}

const isBooleanText = (text: string) => Object.hasOwn(BOOLEANS, text.toLowerCase());

/** `--lora` alone is with its defaults, `--lora null` without. */
const isSection = (path: readonly string[]) =>
  path.length === 1 && (path[0] === "lora" || path[0] === "early_stopping");

const isSectionText = (text: string) => text === "null" || isBooleanText(text) || /^\s*\{/.test(text);

/** Takes yes and no, but no other text (as `resume_from_checkpoint` does). */
function isPureSwitch(path: readonly string[]): boolean {
  const schema = schemaOf(path);
  return schema?.safeParse(true).success === true && !schema.safeParse("some text").success;
}

/** The value that a word stands for: read as YAML, except where the option takes it as it is. */
function readWord(path: readonly string[], text: string): unknown {
  if (path.length === 1 && NAMES.has(path[0]!) && !/^\s*[{[]/.test(text)) return text === "null" ? null : text;
  const parsed = parseWord(text);
  if (isSection(path) && typeof parsed === "string") return BOOLEANS[text.toLowerCase()] ?? parsed;
  const schema = schemaOf(path);
  if (schema === undefined || schema.safeParse(parsed).success) return parsed;
  if (schema.safeParse(text).success) return text;
  if (schema.safeParse(true).success && isBooleanText(text)) return BOOLEANS[text.toLowerCase()];
  return parsed;
}

function parseWord(text: string): unknown {
  try {
    const value: unknown = parse(text);
    // A plain text stays as typed: YAML would cut a comment off.
    return typeof value === "string" ? text : value;
  } catch {
    return text;
  }
}
