/** Every architecture that slimtune trains, in the order of docs/models.md. */
import type { Spelling } from "../description.js";
import type { Architecture } from "./architecture.js";
import { llama } from "./llama.js";

export const architectures: readonly Architecture[] = [llama];

/** A text model inside a multimodal one: its text part is read, the rest is carried along. */
export interface Wrapper {
  className: string;
  /** model_type of `text_config`, where it has none. */
  textType: string;
  /** Where the text model's embedding and layers are. */
  root: string;
  spellings: Spelling[];
  /** Weights of the other parts. */
  carried: RegExp;
}

export const wrappers: Readonly<Record<string, Wrapper>> = {};
