import type { z } from "zod";
import { batch } from "./batch.js";
import { data } from "./data.js";
import { evaluation } from "./evaluation.js";
import type { AnyField, Group } from "./field.js";
import { hardware } from "./hardware.js";
import { hub } from "./hub.js";
import { length } from "./length.js";
import { logging } from "./logging.js";
import { loss } from "./loss.js";
import { optimizer } from "./optimizer.js";
import { precision } from "./precision.js";
import { saving } from "./saving.js";
import { schedule } from "./schedule.js";

/** Every argument by name: the one source of types, defaults, help, errors, docs and JSON Schema. */
export const FIELDS = {
  ...length.fields,
  ...batch.fields,
  ...schedule.fields,
  ...optimizer.fields,
  ...loss.fields,
  ...precision.fields,
  ...data.fields,
  ...logging.fields,
  ...evaluation.fields,
  ...saving.fields,
  ...hardware.fields,
  ...hub.fields,
};

/** The groups in the order of the help and the docs. */
export const GROUPS: readonly Group[] = [
  length,
  batch,
  schedule,
  optimizer,
  loss,
  precision,
  data,
  logging,
  evaluation,
  saving,
  hardware,
  hub,
];

export type FieldName = keyof typeof FIELDS;

/** The values of all fields as the schemas infer them; types.generated.ts spells them out with the help. */
export type FieldValues = { [K in FieldName]: z.output<(typeof FIELDS)[K]["schema"]> };

export const fieldNames = Object.keys(FIELDS) as FieldName[];

export const fieldOf = (name: string): AnyField | undefined =>
  Object.hasOwn(FIELDS, name) ? FIELDS[name as FieldName] : undefined;
