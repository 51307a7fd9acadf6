import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { UserError } from "../support/errors.js";
import { checkArguments } from "./check.js";
import { OLD_NAMES } from "./old-names.js";
import { FIELDS, type FieldValues, fieldNames } from "./table.js";
import type { OldArguments, TrainingArgumentsFields } from "./types.generated.js";

/** Arguments as a person gives them: any subset, old names too. */
export type TrainingArgumentsInput = Partial<TrainingArgumentsFields> & OldArguments;

// The declarations are generated, so each field has its help in editors; the constructor fills every one of them.
export interface TrainingArguments extends Readonly<TrainingArgumentsFields> {}

/**
 * The settings of a run: the names, defaults and meaning of transformers 5.18's `TrainingArguments` and of the data
 * options of TRL 1.13's `SFTConfig`. Every field holds its resolved value.
 * @throws UserError naming each argument that is unknown, has a wrong value or cannot be honoured.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the constructor assigns all fields of the interface
export class TrainingArguments {
  /** What the user should know: old names that were given, arguments that have no effect here. */
  readonly notes: readonly string[];

  constructor(input: TrainingArgumentsInput = {}) {
    const { values, notes, problems } = checkArguments(input as Record<string, unknown>);
    if (problems.length > 0) {
      const issues = problems.map(({ name, message }) => ({ path: `training_args.${name}`, message }));
      throw new UserError(issues.map(({ path, message }) => `${path}: ${message}`).join("\n"), { issues });
    }
    this.notes = notes;
    const fields: TrainingArgumentsFields = values satisfies FieldValues;
    Object.assign(this, fields);
  }

  /** The same arguments but for some values. @throws UserError as the constructor does */
  with(values: TrainingArgumentsInput): TrainingArguments {
    const { notes: _, ...fields } = this;
    return new TrainingArguments({ ...fields, ...values });
  }

  /** The settings that differ from the defaults, in the order of the table; secrets are masked. */
  nonDefault(): Partial<TrainingArgumentsFields> {
    const all = this.toJSON();
    const changed = fieldNames.filter((name) => !isDeepStrictEqual(all[name], FIELDS[name].default));
    return Object.fromEntries(changed.map((name) => [name, all[name]]));
  }

  /** Every setting, for files and logs; secrets are masked. */
  toJSON(): TrainingArgumentsFields {
    const all = Object.fromEntries(fieldNames.map((name) => [name, this[name]])) as unknown as TrainingArgumentsFields;
    return all.hub_token === null ? all : { ...all, hub_token: "<HUB_TOKEN>" };
  }
}

/** The table as one schema, for the JSON Schema of the config file. Old names are known, but marked deprecated. */
export const trainingArgumentsSchema = z.strictObject({
  ...Object.fromEntries(
    fieldNames.map((name) => {
      const { schema, help, fate, why, default: value } = FIELDS[name];
      const about = fate === "honoured" ? help : `${help} ${fate === "refused" ? "Refused" : "No effect"}: ${why}.`;
      return [name, (schema as z.ZodType).optional().meta({ description: about, default: value })];
    }),
  ),
  ...Object.fromEntries(
    Object.entries(OLD_NAMES).map(([name, { help }]) => [
      name,
      z.unknown().optional().meta({ description: help, deprecated: true }),
    ]),
  ),
});
