/** Every architecture that slimtune trains, in the order of docs/models.md. */
import type { Spelling } from "../description.js";
import type { Architecture } from "./architecture.js";
import { cohere2 } from "./cohere2.js";
import { ernie4_5 } from "./ernie4_5.js";
import { exaone4 } from "./exaone4.js";
import { gpt2 } from "./gpt2.js";
import { gptNeox } from "./gptNeox.js";
import { granite } from "./granite.js";
import { helium } from "./helium.js";
import { hunyuan } from "./hunyuan.js";
import { llama } from "./llama.js";
import { olmo2 } from "./olmo2.js";
import { olmo3 } from "./olmo3.js";
import { stablelm } from "./stablelm.js";
import { starcoder2 } from "./starcoder2.js";

export const architectures: readonly Architecture[] = [
  llama,
  granite,
  olmo2,
  olmo3,
  gpt2,
  gptNeox,
  stablelm,
  starcoder2,
  exaone4,
  ernie4_5,
  hunyuan,
  helium,
  cohere2,
];

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
