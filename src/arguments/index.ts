export { TrainingArguments, type TrainingArgumentsInput, trainingArgumentsSchema } from "./arguments.js";
export { checkArguments } from "./check.js";
export type { Problem } from "./cross-field.js";
export { type AnyField, acceptedChoices, type Fate, type Group } from "./field.js";
export { OLD_NAMES } from "./old-names.js";
export { FIELDS, type FieldName, fieldNames, fieldOf, GROUPS } from "./table.js";
export type { TrainingArgumentsFields } from "./types.generated.js";
