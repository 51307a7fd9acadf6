/**
 * Every key of every config class of transformers 5.18 counts, or is refused, or is listed here with the reason why training
 * does not depend on it. A key counts if a change of its value changes the model's description.
 */
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { architectures, wrappers } from "../../src/models/architectures/index.js";
import { parseModelConfig, supportedTypes } from "../../src/models/config.js";
import { UserError } from "../../src/support/errors.js";
import { modelTypes, readVariant, variantNames } from "../support/architectures.js";
import { readGoldenJson } from "../support/goldens.js";

type Config = Record<string, unknown>;

/** model_type → every key of its class → its default. */
const classes = readGoldenJson<Record<string, Config>>("config-keys.json");

/** Why training does not depend on a key. */
const IRRELEVANT: Record<string, string> = {
  bos_token_id: "the tokenizer's, and generation's",
  chunk_size_feed_forward: "none of these classes reads it",
  dtype: "what the files say of themselves counts",
  eod_token_id: "no class reads it",
  id2label: "for classification",
  initializer_range: "weights are loaded, not drawn",
  is_encoder_decoder: "a decoder's class does not read it",
  label2id: "for classification",
  output_attentions: "what is returned besides the logits",
  output_hidden_states: "what is returned besides the logits",
  pretraining_tp: "no class reads it any more",
  problem_type: "for classification",
  return_dict: "in what the logits are returned",
  use_cache: "for generation, where slimtune always caches",
};

/** The same for a key of one type, which may count for others. */
const IRRELEVANT_HERE: Record<string, Record<string, string>> = {
  gpt2: {
    pad_token_id: "its embedding has no padding_idx",
    reorder_and_upcast_attn: "for 16-bit arithmetic with eager attention",
    summary_activation: "for GPT2DoubleHeadsModel",
    summary_first_dropout: "for GPT2DoubleHeadsModel",
    summary_proj_to_labels: "for GPT2DoubleHeadsModel",
    summary_type: "for GPT2DoubleHeadsModel",
    summary_use_proj: "for GPT2DoubleHeadsModel",
  },
  gpt_neox: {
    classifier_dropout: "for GPTNeoXForTokenClassification",
    is_decoder: "its class does not read it",
    num_key_value_heads: "its class has as many as there are heads",
    pad_token_id: "its embedding has no padding_idx",
    partial_rotary_factor: "its class reads rotary_pct",
    rope_theta: "its class reads rotary_emb_base",
  },
  gemma2: { hidden_act: "its class reads hidden_activation" },
  gemma3_text: {
    _sliding_window_pattern: "layer_types was made from it",
    attn_logit_softcapping: "its class keeps it and never applies it",
    hidden_act: "its class reads hidden_activation",
    original_max_position_embeddings: "each of its rotations has its own",
  },
  olmo3: { original_max_position_embeddings: "each of its rotations has its own" },
  phi3: { embd_pdrop: "its class keeps it and never applies it" },
  ernie4_5: { attention_dropout: "its class has none, whatever the file says" },
  gemma3: {
    boi_token_index: "of images",
    eoi_token_index: "of images",
    image_token_index: "of images",
    mm_tokens_per_image: "of images",
  },
  mistral3: {
    image_token_index: "of images",
    multimodal_projector_bias: "of images",
    projector_hidden_act: "of images",
    spatial_merge_size: "of images",
    vision_feature_layer: "of images",
  },
};

const supported = supportedTypes();

/** The description in text, without the config that it was read from. */
const described = (config: Config): string =>
  JSON.stringify({ ...parseModelConfig(JSON.stringify(config), "config.json"), text: undefined });

/** Where two texts part, some of both. */
function firstDifference(a: string, b: string): string {
  if (a === b) return "";
  let at = 0;
  while (a[at] === b[at]) at++;
  return `${a.slice(at - 40, at + 40)} | ${b.slice(at - 40, at + 40)}`;
}

/** Configs from which to change a key: some keys count beside certain others only. */
function bases(model_type: string): Config[] {
  const whole: Config = { model_type, ...classes[model_type] };
  const tiny = variantNames.filter((name) => modelTypes[name] === model_type).map((name) => readVariant(name).config);
  return [...tiny, whole].flatMap((config) => {
    const { layer_types: _, no_rope_layers: __, rope_parameters, ...sparse } = config;
    const { rope_theta: ___, ...turned } = (rope_parameters ?? {}) as Config;
    const yarn = { rope_scaling: { rope_type: "yarn", factor: 2 } };
    const windowed = { ...config, layer_types: undefined, use_sliding_window: true, sliding_window: 4 };
    return [config, { ...sparse, rope_parameters: turned }, sparse, { ...sparse, ...yarn }, windowed];
  });
}

const ANY = [1, 2, 4, 8, 64, 0.5, true, false, "silu", "relu", ["full_attention"], { rope_type: "linear", factor: 2 }];

/** Other values, of the same kind where there is one. */
function others(value: unknown): unknown[] {
  if (value === null || value === undefined) return ANY;
  if (typeof value === "boolean") return [!value];
  if (typeof value === "string") return ["silu", "gelu", "relu"].filter((name) => name !== value);
  if (typeof value === "number") {
    const near = Number.isInteger(value) ? [2 * value, value + 1, value - 1, 1] : [];
    return [...near, value + 0.125, value / 2].filter((other) => other !== value);
  }
  if (Array.isArray(value)) {
    const swapped = ["full_attention", "sliding_attention"].map((type) => value.map(() => type));
    return [...swapped, value.map(() => 0), value.map(() => 1)];
  }
  const inner = Object.entries(value as Config);
  return inner.flatMap(([key, part]) => others(part).map((other) => ({ ...(value as Config), [key]: other })));
}

/** What a schema says of a value of a wrong kind or range: it has read the key, which says nothing of what it does. */
const MISSHAPEN = /: (Invalid input: expected|Too (big|small): expected) /;

/** Whether another value of a key gives another model, or is refused for what it would mean. */
function counts(base: Config, key: string): boolean {
  let before: string;
  try {
    before = described(base);
  } catch (error) {
    if (error instanceof UserError) return false; // these keys do not go together
    throw error;
  }
  return others(base[key]).some((value) => {
    try {
      return described({ ...base, [key]: value }) !== before;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      const named = error.message.includes(key === "rope_scaling" ? "rope_parameters" : key);
      return named && !MISSHAPEN.test(error.message);
    }
  });
}

/** The keys that a type's page reads, those of older versions among them. */
function readKeys(type: string): string[] {
  const schema = architectures.find((page) => type in page.classes)?.config;
  const object = schema instanceof z.ZodPipe ? schema.in : schema;
  return object instanceof z.ZodObject ? Object.keys(object.shape) : [];
}

describe.each(supported)("%s", (type) => {
  const irrelevant = { ...IRRELEVANT, ...IRRELEVANT_HERE[type] };

  it("each key of its class and of its page counts, or is known not to", () => {
    const keys = [...new Set([...Object.keys(classes[type]!), ...readKeys(type)])];
    expect(keys).toEqual(expect.arrayContaining(Object.keys(IRRELEVANT_HERE[type] ?? {})));
    const ignored = keys.filter((key) => !bases(type).some((base) => counts(base, key)));
    expect(ignored.sort()).toEqual(keys.filter((key) => key in irrelevant).sort());
  });

  it("a sparse config gets the class's defaults", () => {
    const inner = wrappers[type]?.textTypes[0];
    const { eos_token_id: _, ...defaults } = classes[inner ?? type]!;
    const [sparse, whole] = inner ? [{ text_config: {} }, { text_config: defaults }] : [{}, defaults];
    expect(firstDifference(described({ model_type: type, ...sparse }), described({ model_type: type, ...whole }))).toBe(
      "",
    );
  });

  it.each([
    ["is_causal", false],
    ["per_layer_config", { 1: { sliding_window: 4 } }],
  ])("%s is refused", (key, value) => {
    const [config, path] =
      type in wrappers ? [{ text_config: { [key]: value } }, `text_config: ${key}`] : [{ [key]: value }, key];
    expect(() => described({ model_type: type, ...config })).toThrow(`config.json: ${path}: `);
  });
});

it("only keys of supported classes are listed", () => {
  const all = new Set(supported.flatMap((type) => [...Object.keys(classes[type]!), ...readKeys(type)]));
  for (const key of Object.keys(IRRELEVANT)) expect(all, key).toContain(key);
});
