/** A model's description from its `config.json`, by the page of its architecture. */
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { zodProblem } from "../support/zodProblem.js";
import { only } from "./architectures/fields.js";
import { architectures, wrappers } from "./architectures/index.js";
import type { Wrapper } from "./architectures/wrappers.js";
import type { ModelDescription } from "./description.js";

/** What every config has. */
const headSchema = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  model_type: z.string(),
  quantization_config: z.looseObject({ quant_method: z.string().optional() }).nullish(),
  text_config: z.looseObject({ model_type: z.string().optional() }).nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  eos_token_id: z.union([z.number().int(), z.array(z.number().int())]).nullish(),
});

/** What transformers does with any model's config, and slimtune with none. */
const commonSchema = z.looseObject({
  is_causal: only([true], "slimtune trains causal models"),
  per_layer_config: only([], "all layers have the config's sizes"),
});

/** model_type of each supported architecture, those inside of multimodal models among them. */
export const supportedTypes = (): string[] => [
  ...architectures.flatMap(({ classes }) => Object.keys(classes)),
  ...Object.keys(wrappers),
];

function checked<Schema extends z.ZodType>(schema: Schema, value: unknown, path: string): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new UserError(`${path}: ${zodProblem(parsed.error)}`);
  return parsed.data;
}

/** The text model's config in a multimodal model's, which says itself whether the head is tied. */
function textConfig(outer: z.output<typeof headSchema>, wrapper: Wrapper, path: string) {
  const { model_type: type, text_config: text, tie_word_embeddings: tied } = outer;
  if (!text) throw new UserError(`${path}: text_config is missing, which a ${type} model's text part is read from`);
  const model_type = text.model_type ?? wrapper.textTypes[0];
  if (!wrapper.textTypes.includes(model_type)) {
    throw new UserError(
      `${path}: text_config: model_type '${model_type}' is not supported inside of a ${type} model; ${wrapper.textTypes.join(", ")} are`,
    );
  }
  return { ...text, model_type, tie_word_embeddings: tied === undefined ? true : (tied ?? false) };
}

/**
 * Reads the text of a config.json.
 * @throws UserError naming the file and the key for anything that would be computed wrongly
 */
export function parseModelConfig(text: string, path: string): ModelDescription {
  let source: unknown;
  try {
    source = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path} is not valid JSON: ${(error as Error).message}`);
  }
  const outer = checked(headSchema, source, path);
  if (outer.quantization_config != null) {
    const method = outer.quantization_config.quant_method ?? "an unnamed method";
    throw new UserError(
      `${path}: quantization_config: its weights are quantized by ${method}, which cannot be read. Take the unquantized model; \`quantization\` in the run's config makes 4 or 8 bits of it`,
    );
  }
  const wrapper = wrappers[outer.model_type];
  const read = wrapper ? textConfig(outer, wrapper, path) : outer;
  const modelType = read.model_type;
  const architecture = architectures.find(({ classes }) => modelType in classes);
  const className = wrapper?.className ?? architecture?.classes[modelType];
  const given = outer.architectures?.[0] ?? className;
  if (!architecture || given !== className) {
    const wrong = architecture
      ? `architecture '${given}' is not supported for model_type '${outer.model_type}'; ${className} is`
      : `model_type '${modelType}' is not supported; ${supportedTypes().join(", ")} are`;
    throw new UserError(`${path}: ${wrong}. docs/models.md lists the models`);
  }
  const where = wrapper ? `${path}: text_config` : path;
  checked(commonSchema, read, where);
  const config = checked(architecture.config, read, where);
  let described: ReturnType<typeof architecture.describe>;
  try {
    described = architecture.describe(config, wrapper?.root ?? "model");
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${where}: ${error.message}`, { cause: error });
  }
  return {
    spellings: wrapper?.spellings ?? [],
    others: wrapper ? { carried: wrapper.carried } : undefined,
    ...described,
    // PEFT goes by the outer model_type, for which it has none.
    defaultTargets: wrapper ? undefined : described.defaultTargets,
    eosTokenIds: outer.eos_token_id == null ? described.eosTokenIds : [outer.eos_token_id].flat(),
    modelType: outer.model_type,
    text,
  };
}

/** Reads `config.json` of a model folder. */
export async function readModelConfig(folder: string): Promise<ModelDescription> {
  const path = join(folder, "config.json");
  let text: string;
  try {
    text = (await readRegularFile(path, FILE_LIMITS.config)).toString();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(
      `model: cannot read ${path} (${(error as NodeJS.ErrnoException).code}). A model folder in Hugging Face format holds config.json, tokenizer.json and *.safetensors.`,
    );
  }
  return parseModelConfig(text, path);
}
