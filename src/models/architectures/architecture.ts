/** A page: what slimtune knows of an architecture. */
import type { z } from "zod";
import type { Described } from "./parts.js";

export interface Architecture<Schema extends z.ZodType = z.ZodType> {
  /** For the list of supported models. */
  family: string;
  /** Names that people know, for the same list. */
  models: string;
  /** What it does in another way than Llama, for the same list. */
  special: string;
  /** model_type → the class in `architectures`. */
  classes: Record<string, string>;
  /** The part of config.json that counts, with the defaults of transformers' class. */
  config: Schema;
  /**
   * @param root the path of the module that holds embedding and layers: "model", or where a multimodal model has it
   * @throws UserError naming the key for what would be computed wrongly
   */
  describe(config: z.output<Schema>, root: string): Described;
}

/** The same page with its schema's type forgotten, for lists of pages. */
export const page = <Schema extends z.ZodType>(architecture: Architecture<Schema>): Architecture =>
  architecture as unknown as Architecture;
