/** Multimodal models with a text model inside: its text part is read, the rest is carried along. */
import type { Spelling } from "../description.js";

export interface Wrapper {
  /** For the list of supported models. */
  family: string;
  models: string;
  className: string;
  /** What model_type of `text_config` may be; the first where it has none. */
  textTypes: readonly [string, ...string[]];
  /** Where the text model's embedding and layers are. */
  root: string;
  spellings: Spelling[];
  /** Weights of the other parts. */
  carried: RegExp;
}

/** As version 5 has them in memory; on disk they have other names, but for what some of version 4 wrote. */
const llava = {
  root: "model.language_model",
  spellings: [
    [],
    [
      ["model.language_model.", "language_model.model."],
      ["lm_head.", "language_model.lm_head."],
    ],
  ],
  carried: /^(model\.)?(vision_tower|multi_modal_projector)\./,
} satisfies Partial<Wrapper>;

export const wrappers: Readonly<Record<string, Wrapper>> = {
  gemma3: {
    family: "Gemma",
    models: "Gemma 3 4B and larger, MedGemma",
    className: "Gemma3ForConditionalGeneration",
    textTypes: ["gemma3_text"],
    ...llava,
  },
  mistral3: {
    family: "Mistral",
    models: "Ministral 3, Mistral Small 3.1",
    className: "Mistral3ForConditionalGeneration",
    textTypes: ["mistral", "ministral3"],
    ...llava,
  },
};
