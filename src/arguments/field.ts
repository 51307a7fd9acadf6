import { z } from "zod";

/**
 * What slimtune does with an argument:
 * `honoured` has its Hugging Face meaning; `no-effect` is accepted and the run says that it changes nothing here;
 * `refused` stops with the reason when the value differs from the default.
 */
export type Fate = "honoured" | "no-effect" | "refused";

/** What values a field takes: how they are checked, written in TypeScript and described to people. */
export interface Kind<T> {
  readonly schema: z.ZodType<T>;
  /** TypeScript type, for the generated declarations. */
  readonly ts: string;
  /** Completes "expected ...". */
  readonly expected: string;
  /** All values but null, where they can be listed. */
  readonly choices?: readonly unknown[];
}

export interface Field<T> extends Kind<T> {
  readonly default: T;
  readonly help: string;
  readonly fate: Fate;
  /** Why it has no effect or is refused, and what to use instead. */
  readonly why?: string;
  /** The reason why one explicitly given value cannot be had, or undefined when it can. */
  readonly refuse?: (value: T) => string | undefined;
}

type Definition<T> = Pick<Field<T>, "default" | "help" | "refuse"> &
  ({ fate: "honoured"; why?: never } | { fate: "no-effect" | "refused"; why: string });

/** The choices that are not refused, or undefined when the values cannot be listed. */
export const acceptedChoices = ({ choices, refuse }: AnyField): unknown[] | undefined =>
  choices?.filter((choice) => refuse?.(choice) === undefined);

export const field = <T>(kind: Kind<T>, definition: Definition<NoInfer<T>>): Field<T> => ({ ...kind, ...definition });

interface Range {
  min?: number;
  above?: number;
  below?: number;
  max?: number;
}

function bounded(schema: z.ZodNumber, { min, above, below, max }: Range): z.ZodNumber {
  let result = schema;
  if (min !== undefined) result = result.min(min);
  if (above !== undefined) result = result.gt(above);
  if (below !== undefined) result = result.lt(below);
  if (max !== undefined) result = result.max(max);
  return result;
}

function rangeText({ min, above, below, max }: Range): string {
  const parts: string[] = [];
  if (min !== undefined) parts.push(`of at least ${min}`);
  if (above !== undefined) parts.push(`above ${above}`);
  if (below !== undefined) parts.push(`below ${below}`);
  if (max !== undefined) parts.push(`of at most ${max}`);
  return parts.length === 0 ? "" : ` ${parts.join(" and ")}`;
}

export const integer = (range: Range = {}): Kind<number> => ({
  schema: bounded(z.int(), range),
  ts: "number",
  expected: `a whole number${rangeText(range)}`,
});

export const number = (range: Range = {}): Kind<number> => ({
  schema: bounded(z.number(), range),
  ts: "number",
  expected: `a number${rangeText(range)}`,
});

export const boolean = (): Kind<boolean> => ({
  schema: z.boolean(),
  ts: "boolean",
  expected: "true or false",
  choices: [true, false],
});

export const text = (): Kind<string> => ({ schema: z.string(), ts: "string", expected: "a text" });

export const textList = (): Kind<string[]> => ({
  schema: z.array(z.string()),
  ts: "string[]",
  expected: "a list of texts",
});

export const mapping = (): Kind<Record<string, unknown>> => ({
  schema: z.record(z.string(), z.unknown()),
  ts: "Record<string, unknown>",
  expected: "a mapping of names to values",
});

export const oneOf = <const T extends string>(values: readonly T[]): Kind<T> => ({
  schema: z.enum(values) as unknown as z.ZodType<T>,
  ts: values.map((value) => JSON.stringify(value)).join(" | "),
  expected: `one of ${values.join(", ")}`,
  choices: values,
});

export const either = <A, B>(a: Kind<A>, b: Kind<B>): Kind<A | B> => ({
  schema: z.union([a.schema, b.schema]) as z.ZodType<A | B>,
  ts: `${a.ts} | ${b.ts}`,
  expected: `${a.expected}, or ${b.expected}`,
});

export const orNull = <T>(kind: Kind<T>): Kind<T | null> => ({
  ...kind,
  schema: kind.schema.nullable(),
  ts: `${kind.ts} | null`,
  expected: `${kind.expected}, or null`,
});

// biome-ignore lint/suspicious/noExplicitAny: a table holds fields of every type; each was checked where it was made.
export type AnyField = Field<any>;

/** A group of the table: a heading of the help and of the docs, what it is for, and its fields by name. */
export interface Group<F extends Record<string, AnyField> = Record<string, AnyField>> {
  readonly title: string;
  readonly about: string;
  readonly fields: F;
}

export const group = <F extends Record<string, AnyField>>(title: string, about: string, fields: F): Group<F> => ({
  title,
  about,
  fields,
});
