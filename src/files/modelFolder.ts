/** The files of a model's or adapter's folder beside its weights, by Hugging Face's names. */
export const CONFIG = "config.json";
export const GENERATION_CONFIG = "generation_config.json";
export const ADAPTER_CONFIG = "adapter_config.json";
export const TOKENIZER = "tokenizer.json";
export const TOKENIZER_CONFIG = "tokenizer_config.json";
export const CHAT_TEMPLATE = "chat_template.jinja";
/** A folder of chat templates that have names. */
export const CHAT_TEMPLATES = "additional_chat_templates";

/** Whether a path within the folder belongs with the tokenizer or its use: it goes with every model that is saved. */
export const isTokenizerFile = (path: string): boolean =>
  /^(tokenizer[\w-]*\.json|tokenizer\.model|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json))$/.test(
    path,
  ) || /^additional_chat_templates\/[^/]+\.jinja$/.test(path);

/** Whether it is downloaded with a model: no code and no pickles. */
export const isModelFile = (path: string): boolean =>
  [CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG].includes(path) || isTokenizerFile(path);
