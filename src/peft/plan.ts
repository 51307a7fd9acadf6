/** What an adapter's config asks of a model, found from the description before any weight is loaded. */
import { type LinearDescription, linearsOf, type ModelDescription, normsOf, weightsOf } from "../models/description.js";
import { UserError } from "../support/errors.js";
import { PREFIX } from "./adapterConfig.js";
import { type LoraConfig, lessensBase } from "./config.js";
import { type Targets, targetPaths } from "./targets.js";

export interface AdapterPlan {
  /** As given, with what follows from the model: fan_in_fan_out, and modules_to_save where weights are kept tied. */
  config: LoraConfig;
  /** The layers that get an adapter, in the order in which Python makes them. */
  paths: string[];
  /** target_modules as the adapter's file has it: a pattern, or names. */
  targets: string | string[];
  /** Names of the weights that are trained in full. */
  full: ReadonlySet<string>;
  /** A tied head gets weights of its own, which begin as the embedding's. */
  untied: boolean;
  /** A trained embedding that stays the head's weight, too. */
  keptTied: boolean;
  /** Rows that are trained of the embedding and of the head; the head's are the embedding's where they are tied. */
  rows: { embedding?: readonly number[]; head?: readonly number[]; shared: boolean };
  /** Names of the weights of LayerNorms, as the adapter's file has them. */
  layerNorms: ReadonlySet<string>;
  /** For a person. */
  notes: string[];
}

/** Names of modules that PEFT takes for an embedding or a head that is tied to it. */
const TIED_NAMES = ["embed_tokens", "lm_head"];

/**
 * @param where the options stand, for messages
 * @throws UserError for an option that this model cannot have
 */
export function planAdapter(
  config: LoraConfig,
  description: ModelDescription,
  { where = "lora.", quantized = false }: { where?: string; quantized?: boolean } = {},
): AdapterPlan {
  const { head, embedding } = description;
  const linears = new Map<string, LinearDescription>(
    [...description.layers.flatMap(linearsOf), head.linear].map((layer) => [layer.path, layer]),
  );
  const notes: string[] = [];
  const { config: tiedConfig, keptTied } = keepTied(config, description, notes, where);
  const targets = {
    linears: [...linears.keys()],
    head: head.linear.path,
    embedding: embedding.path,
    defaults: description.defaultTargets,
  };
  const paths = targetPaths(tiedConfig, targets, where);
  const full = new Set([...savedWeights(tiedConfig, description, where), ...trainedBiases(config, description, paths)]);
  const both = paths.find((path) => full.has(`${path}.weight`));
  if (both !== undefined) {
    throw new UserError(
      `${where}modules_to_save: it trains '${both}' in full, which gets an adapter as well. Take it out of one of target_modules and modules_to_save.`,
    );
  }
  if (quantized) {
    if (lessensBase(config)) {
      throw new UserError(
        `${where}init_lora_weights: ${config.init_lora_weights} begins from the base's own weights, which are quantized. Use true, or train without \`quantization\`.`,
      );
    }
    const packed = [...linears.keys()].find((path) => path !== head.linear.path && full.has(`${path}.weight`));
    if (packed !== undefined) {
      throw new UserError(
        `${where}modules_to_save: it trains '${packed}' in full, whose weights are quantized. Leave it out, or train without \`quantization\`.`,
      );
    }
  }
  if (config.ensure_weight_tying && head.tied && paths.includes(head.linear.path)) {
    throw new UserError(
      `${where}ensure_weight_tying: an adapter on '${head.linear.path}' would need the same one on the embedding, which can have none here. Leave one of the two out.`,
    );
  }
  const rows = trainedRows(config, description, full, where);
  if ((rows.head || rows.shared) && paths.includes(head.linear.path)) {
    throw new UserError(
      `${where}trainable_token_indices: it trains rows of '${head.linear.path}', which gets an adapter as well, and PEFT cannot have both. Take the head out of target_modules.`,
    );
  }
  const without = config.lora_bias ? paths.filter((path) => !linears.get(path)!.bias) : [];
  if (without.length > 0) {
    notes.push(`lora_bias: ${without.length} adapted layers have no bias, so that this adapter cannot be merged`);
  }
  const fanInFanOut = linears.get(paths.at(-1)!)!.transposed === true;
  if (config.fan_in_fan_out != null && config.fan_in_fan_out !== fanInFanOut) {
    notes.push(`fan_in_fan_out is ${fanInFanOut}: this model's weights are stored so`);
  }
  return {
    config: { ...tiedConfig, fan_in_fan_out: fanInFanOut },
    paths,
    targets: targetNames(tiedConfig, targets, paths, description.others?.carried !== undefined),
    full,
    untied: head.tied && !keptTied && (full.has(`${embedding.path}.weight`) || full.has(`${head.linear.path}.weight`)),
    keptTied,
    rows,
    layerNorms: new Set(
      [...description.layers.flatMap(normsOf), description.finalNorm]
        .filter(({ kind }) => kind === "layer")
        .map(({ path }) => `${PREFIX}${path}.weight`),
    ),
    notes,
  };
}

/**
 * A pattern or a list as it was given. For "all-linear" and the default their last names, where these say the same; whole
 * paths, as PEFT has them, where other layers have such names, those of a multimodal model's other parts among them.
 */
function targetNames(
  config: LoraConfig,
  targets: Targets,
  paths: readonly string[],
  otherParts: boolean,
): string | string[] {
  const { target_modules: given } = config;
  if (typeof given === "string" && given.toLowerCase() !== "all-linear") return given;
  if (Array.isArray(given)) return [...new Set(given)].sort();
  const names = [...new Set(paths.map((path) => path.slice(path.lastIndexOf(".") + 1)))].sort();
  const meant = otherParts ? [] : targetPaths({ ...config, target_modules: names }, targets);
  return meant.join() === paths.join() ? names : [...paths].sort();
}

/** As PEFT: with ensure_weight_tying a tied matrix is trained as the embedding, whichever of its two places is named. */
function keepTied(
  config: LoraConfig,
  { head, embedding }: ModelDescription,
  notes: string[],
  where: string,
): { config: LoraConfig; keptTied: boolean } {
  if (!config.ensure_weight_tying) return { config, keptTied: false };
  if (!head.tied) {
    notes.push("ensure_weight_tying has no effect: this model's head has weights of its own");
    return { config, keptTied: false };
  }
  const saved = config.modules_to_save ?? [];
  if (!saved.some((name) => TIED_NAMES.includes(name.slice(name.lastIndexOf(".") + 1)))) {
    if (config.trainable_token_indices == null) {
      notes.push(`ensure_weight_tying has no effect: ${where}modules_to_save names neither the embedding nor the head`);
    }
    return { config, keptTied: false };
  }
  const isHead = (name: string) => head.linear.path === name || head.linear.path.endsWith(`.${name}`);
  const rest = saved.filter((name) => !isHead(name));
  const modules_to_save = rest.includes(embedding.path) ? rest : [...rest, embedding.path];
  return { config: { ...config, modules_to_save }, keptTied: true };
}

/** The weights of the modules that modules_to_save names, which are those whose path ends with a name, as in PEFT. */
function* savedWeights(
  { modules_to_save: names }: LoraConfig,
  description: ModelDescription,
  where: string,
): Generator<string> {
  if (names == null) return;
  const { head } = description;
  const weights = weightsOf(description).map(({ name }) => name);
  if (head.tied) weights.push(`${head.linear.path}.weight`);
  const found = new Set<string>();
  for (const weight of weights) {
    const parts = weight.split(".").slice(0, -1);
    const modules = parts.map((_, i) => parts.slice(0, i + 1).join("."));
    const matching = names.filter((name) => modules.some((module) => module.endsWith(name)));
    for (const name of matching) found.add(name);
    if (matching.length > 0) yield weight;
  }
  const missing = names.find((name) => !found.has(name));
  if (missing !== undefined) {
    const endings = new Set(weights.map((weight) => weight.split(".").at(-2)!));
    throw new UserError(
      `${where}modules_to_save: this model has no module '${missing}' with weights. Its modules are named ${[...endings].join(", ")}.`,
    );
  }
}

function trainedBiases({ bias }: LoraConfig, description: ModelDescription, paths: readonly string[]): string[] {
  if (bias === "none") return [];
  const all = weightsOf(description).flatMap(({ name, role }) => (role === "bias" ? [name] : []));
  if (bias === "all") return all;
  const adapted = new Set(paths.map((path) => `${path}.bias`));
  return all.filter((name) => adapted.has(name));
}

function trainedRows(
  { trainable_token_indices: given, ensure_weight_tying: ensure }: LoraConfig,
  { head, embedding, vocabSize }: ModelDescription,
  full: ReadonlySet<string>,
  where: string,
): AdapterPlan["rows"] {
  const option = `${where}trainable_token_indices`;
  const rows: AdapterPlan["rows"] = { shared: false };
  const modules = { embedding: embedding.path, head: head.linear.path };
  const entries = Array.isArray(given) ? [[embedding.path, given] as const] : Object.entries(given ?? {});
  for (const [name, tokens] of entries) {
    const place = (["embedding", "head"] as const).find((key) => modules[key].endsWith(name));
    if (place === undefined) {
      throw new UserError(
        `${option}: '${name}' is neither the embedding, '${modules.embedding}', nor the head, '${modules.head}'`,
      );
    }
    const foreign = tokens.find((token) => token >= vocabSize);
    if (foreign !== undefined)
      throw new UserError(`${option}: this model has ${vocabSize} tokens, and none numbered ${foreign}`);
    if (full.has(`${modules[place]}.weight`)) {
      throw new UserError(
        `${option}: '${modules[place]}' is trained in full by modules_to_save. Take it out of one of the two.`,
      );
    }
    rows[place] = tokens;
  }
  if (!head.tied || !rows.embedding) return rows;
  const same = !rows.head || rows.head.join() === rows.embedding.join();
  if (!same && ensure) {
    throw new UserError(
      `${option}: with ensure_weight_tying the embedding and the head, which are one matrix, need the same tokens`,
    );
  }
  return same ? { embedding: rows.embedding, shared: true } : rows;
}
