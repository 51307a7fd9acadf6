/** A row of a dataset, before anything is made of it. */
import type { DatasetFormat } from "./config.js";

/** One example as the file has it, under our names for its columns when the config maps them. */
export interface Row {
  fields: Record<string, unknown>;
  /** Where it stands, for messages: `file:line`, or `file[index]` in a JSON array. */
  source: string;
  /** How its fields are to be read; never "auto". */
  format: Exclude<DatasetFormat, "auto">;
}
