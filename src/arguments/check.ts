import { isDeepStrictEqual } from "node:util";
import { expandHome } from "../support/home.js";
import { didYouMean } from "../support/nearest.js";
import { crossFieldProblems, type Problem } from "./cross-field.js";
import { deriveValues } from "./derive.js";
import type { AnyField } from "./field.js";
import { OLD_NAMES, OLD_VALUES } from "./old-names.js";
import { FIELDS, type FieldName, type FieldValues, fieldNames, fieldOf } from "./table.js";

export interface Checked {
  /** Every field, given or default. */
  readonly values: FieldValues;
  /** What the user should know: old names, arguments without effect. */
  readonly notes: readonly string[];
  /** When there is one, `values` must not be used. */
  readonly problems: readonly Problem[];
}

interface Entry {
  /** As the user wrote it, perhaps an old one. */
  readonly given: string;
  readonly name: FieldName;
  readonly value: unknown;
}

/** Checks arguments by name against the table; never throws for what a user may write. */
export function checkArguments(input: Readonly<Record<string, unknown>>): Checked {
  const notes: string[] = [];
  const problems: Problem[] = [];
  const values = Object.fromEntries(fieldNames.map((name) => [name, structuredClone(FIELDS[name].default)])) as Record<
    FieldName,
    unknown
  >;
  const givenAs = new Map<FieldName, string>();

  for (const { given, name, value } of resolveNames(input, notes, problems)) {
    const earlier = givenAs.get(name);
    if (earlier !== undefined) {
      problems.push({ name: given, message: `${earlier} and ${given} are the same argument; give ${name} only` });
      continue;
    }
    givenAs.set(name, given);
    const field = fieldOf(name)!;
    const resolved = tidy(name, value);
    const problem = valueProblem(name, field, resolved) ?? fateProblem(field, resolved);
    if (problem !== undefined) {
      const message = given === name ? problem : `as ${name}, ${problem}`;
      problems.push({ name: given, message });
      continue;
    }
    values[name] = resolved;
    if (field.fate === "no-effect" && !isDeepStrictEqual(resolved, field.default)) {
      notes.push(`${given} has no effect: ${field.why}`);
    }
  }
  if (problems.length === 0) {
    deriveValues(values as FieldValues);
    problems.push(...crossFieldProblems(values as FieldValues));
  }
  return { values: values as FieldValues, notes, problems };
}

function* resolveNames(
  input: Readonly<Record<string, unknown>>,
  notes: string[],
  problems: Problem[],
): Generator<Entry> {
  for (const [given, value] of Object.entries(input)) {
    if (value === undefined) continue;
    if (fieldOf(given) !== undefined) {
      yield { given, name: given as FieldName, value };
      continue;
    }
    const old = Object.hasOwn(OLD_NAMES, given) ? OLD_NAMES[given] : undefined;
    if (old === undefined) {
      problems.push({
        name: given,
        message: `unknown argument${didYouMean(given, [...fieldNames, ...Object.keys(OLD_NAMES)])}`,
      });
      continue;
    }
    const conversion = old.convert(value);
    if ("refused" in conversion) {
      problems.push({ name: given, message: `is no longer an argument: ${conversion.refused}` });
    } else if ("ignored" in conversion) {
      notes.push(`${given} is no longer an argument: ${conversion.ignored}`);
    } else {
      notes.push(`${given} is an old name: taken as ${conversion.as}: ${JSON.stringify(conversion.value)}`);
      yield { given, name: conversion.as, value: conversion.value };
    }
  }
}

/** The Trainer's own tidying of values that mean the same. */
function tidy(name: FieldName, value: unknown): unknown {
  if (name === "output_dir") {
    return value === null ? FIELDS.output_dir.default : typeof value === "string" ? expandHome(value) : value;
  }
  if (name === "resume_from_checkpoint" && value === false) return null;
  if (name === "save_total_limit" && value === 0) return null;
  if (name === "include_num_input_tokens_seen" && typeof value === "boolean") return value ? "all" : "no";
  if (name === "report_to" && (value === null || isDeepStrictEqual(value, []) || isDeepStrictEqual(value, ["none"]))) {
    return "none";
  }
  return value;
}

function valueProblem(name: FieldName, field: AnyField, value: unknown): string | undefined {
  if (field.schema.safeParse(value).success) return undefined;
  const renamed = typeof value === "string" ? OLD_VALUES[name]?.[value] : undefined;
  if (renamed !== undefined) return `"${value}" no longer exists; use "${renamed}"`;
  const names = typeof value === "string" ? field.choices?.filter((choice) => typeof choice === "string") : undefined;
  const advice = names?.length ? didYouMean(String(value), names) : hint(field, value);
  return `expected ${field.expected}, got ${shown(value)}${advice}`;
}

/** What a Python or quoted spelling of a value should be in YAML, JSON and TypeScript. */
function hint(field: AnyField, value: unknown): string {
  if (typeof value !== "string") return "";
  const spelled: Record<string, unknown> = { None: null, True: true, False: false };
  const plain = Object.hasOwn(spelled, value) ? spelled[value] : Number(value.replaceAll("_", ""));
  if (value.trim() === "" || !field.schema.safeParse(plain).success) return "";
  return ` (write ${plain}, without quotes)`;
}

function fateProblem(field: AnyField, value: unknown): string | undefined {
  const refused = field.refuse?.(value);
  if (refused !== undefined) return `${shown(value)}: ${refused}`;
  if (field.fate === "refused" && !isDeepStrictEqual(value, field.default)) return `${shown(value)}: ${field.why}`;
  return undefined;
}

function shown(value: unknown): string {
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
