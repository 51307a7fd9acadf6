/** Base plus adapter as one model, a tensor at a time: what PEFT's merge_and_unload gives, from the files alone. */
import { randomBytes } from "node:crypto";
import { copyFile, mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import {
  ADAPTER_CONFIG,
  CHAT_TEMPLATES,
  CONFIG,
  GENERATION_CONFIG,
  isTokenizerFile,
  TOKENIZER,
} from "../files/modelFolder.js";
import type { SafetensorsDtype } from "../files/safetensors.js";
import { type TensorEntry, writeShardedSafetensors } from "../files/safetensorsWriter.js";
import { storedEntry } from "../files/storedEntry.js";
import type { TensorLocation, WeightIndex } from "../files/weights.js";
import { resolveModel } from "../hub/index.js";
import { type LinearDescription, linearsOf, type ModelDescription, weightsOf } from "../models/description.js";
import { describeModel } from "../models/load.js";
import { respell, spellingOf } from "../models/modelWeights.js";
import { dtypeOf, StoredTensors } from "../models/storedTensors.js";
import { sync, writeSynced } from "../support/durable.js";
import { editJson } from "../support/editJson.js";
import { UserError } from "../support/errors.js";
import { noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { PREFIX } from "./adapterConfig.js";
import { lessensBase } from "./config.js";
import { firstWeights } from "./initialWeights.js";
import { type AdapterPlan, planAdapter } from "./plan.js";
import { type LoraShape, loraShapes } from "./shapes.js";
import { LORA_KEYS, StoredAdapter, TOKENS_KEY } from "./storedAdapter.js";

export const MERGE_DTYPES = ["float32", "bfloat16", "float16"] as const;
export type MergeDType = (typeof MERGE_DTYPES)[number];
const STORED = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const;
const FLOATS: readonly SafetensorsDtype[] = ["F32", "F16", "BF16"];

/** What is merged, and where to. */
export interface MergeOptions {
  /** An adapter's folder or hub id: a run's output_dir, a checkpoint in it, or one that PEFT wrote. */
  adapter: string;
  /** The folder to write. It must not be there yet, or be empty. */
  out: string;
  /** The base model; default: the one that adapter_config.json names. */
  model?: string;
  /** What the weights are stored in; default: as the base has them. */
  dtype?: MergeDType;
}

/** What was written. */
export interface Merged {
  /** Where the merged model is. */
  folder: string;
  /** The folder of the base. */
  base: string;
  /** How many of the base's tensors the adapter changed. */
  changed: number;
}

/**
 * Merges an adapter into its base's weights, as they are in its files: an adapter that was trained on a quantized base is
 * merged into the weights that were quantized. The folder appears under its name when it is whole.
 * @throws UserError for an adapter that does not fit, or cannot be merged, and for a folder that holds something
 */
export async function mergeAdapter({ adapter: from, out, model, dtype }: MergeOptions): Promise<Merged> {
  const folder = resolve(out);
  await refuseFull(folder);
  const adapter = await StoredAdapter.open(await adapterFolder(from));
  const stored = new StoredTensors();
  const made = join(dirname(folder), `.${basename(folder)}-${randomBytes(4).toString("hex")}-new`);
  try {
    const base = await baseFolder(adapter, model);
    const { description, index } = await describeModel(base);
    const merging = new Merging(adapter, description, stored);
    const entries = [...merging.entries(index, dtype)];
    await mkdir(made, { recursive: true });
    await copyFiles(base, adapter.folder, made);
    const config = editJson(description.text, (source) => mergedConfig(source, dtype, merging.untied));
    await writeSynced(join(made, CONFIG), config);
    await writeShardedSafetensors(made, entries);
    await rmdir(folder).catch(() => {}); // an empty one
    await rename(made, folder);
    await sync(dirname(folder));
    return { folder, base, changed: merging.changed };
  } catch (error) {
    await rm(made, { recursive: true, force: true }).catch(() => {});
    if (!(error as NodeJS.ErrnoException).code || error instanceof UserError) throw error;
    throw new UserError(`--out: ${folder} cannot be written: ${(error as Error).message}`, { cause: error });
  } finally {
    stored.close();
    adapter.close();
  }
}

/** The base's config.json, where the weights' dtype and the head are what they are now. */
function mergedConfig(
  { torch_dtype, dtype: before, ...source }: Record<string, unknown>,
  dtype: MergeDType | undefined,
  untied: boolean,
): Record<string, unknown> {
  const stored = dtype ?? before ?? torch_dtype;
  return {
    ...source,
    ...(stored === undefined ? {} : { dtype: stored }),
    ...(untied ? { tie_word_embeddings: false } : {}),
  };
}

async function refuseFull(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new UserError(`--out: ${folder} is no folder that can be used: ${error.message}`);
  });
  if (names.length > 0) {
    throw new UserError(
      `--out: ${folder} holds files already, and they are left alone. Name a folder that is not there yet.`,
    );
  }
}

async function adapterFolder(from: string): Promise<string> {
  const folder = await resolveModel(from);
  const names = await readdir(folder);
  if (names.includes(ADAPTER_CONFIG)) return folder;
  if (names.includes(CONFIG)) throw new UserError(`${folder} holds a whole model, and no adapter to merge into one.`);
  const checkpoint = names
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => Number(a.slice(11)) - Number(b.slice(11)))
    .at(-1);
  throw new UserError(
    checkpoint
      ? `${folder} has no result yet. Merge its newest checkpoint: ${join(folder, checkpoint)}`
      : `${folder} holds no adapter: there is no ${ADAPTER_CONFIG}`,
  );
}

async function baseFolder({ baseModel, where }: StoredAdapter, model: string | undefined): Promise<string> {
  if (model !== undefined) return resolveModel(model);
  if (baseModel === undefined) throw new UserError(`${where}it names no base model. Name it with --model.`);
  try {
    return await resolveModel(baseModel);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${where}base_model_name_or_path: ${error.message} Or name the base with --model.`, {
      cause: error,
    });
  }
}

/** What lies beside the weights: the tokenizer that the adapter was trained with, where it has one, else the base's. */
async function copyFiles(base: string, adapter: string, folder: string): Promise<void> {
  const names = await readdir(adapter);
  const tokenizer = names.includes(TOKENIZER) ? adapter : base;
  const templates = await readdir(join(tokenizer, CHAT_TEMPLATES)).catch(() => []);
  const copy = async (source: string, path: string) => {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await copyFile(join(source, path), join(folder, path));
    await sync(join(folder, path));
  };
  for (const path of [...(await readdir(tokenizer)), ...templates.map((name) => `${CHAT_TEMPLATES}/${name}`)]) {
    if (isTokenizerFile(path)) await copy(tokenizer, path);
  }
  for (const path of await readdir(base)) {
    if (path === GENERATION_CONFIG || /^(pre|video_pre)?processor_config\.json$/.test(path)) await copy(base, path);
  }
}

type Change = (weight: Tensor) => Tensor;

/** What becomes of each of the base's tensors. */
class Merging {
  readonly #adapter: StoredAdapter;
  readonly #plan: AdapterPlan;
  readonly #description: ModelDescription;
  readonly #stored: StoredTensors;
  readonly #linears: ReadonlyMap<string, LinearDescription>;
  readonly #shapeOf: (path: string) => LoraShape;
  /** A tied head has weights of its own now. */
  readonly untied: boolean;
  changed = 0;

  /** @throws UserError for an adapter that does not fit, or that cannot be merged */
  constructor(adapter: StoredAdapter, description: ModelDescription, stored: StoredTensors) {
    const { where, config } = adapter;
    const { head, layers } = description;
    this.#adapter = adapter;
    this.#description = description;
    this.#stored = stored;
    this.#plan = planAdapter(config, description, { where });
    adapter.refuseOthers(this.#plan, description);
    const { paths, untied, rows } = this.#plan;
    this.#shapeOf = loraShapes(config, where);
    this.#linears = new Map([...layers.flatMap(linearsOf), head.linear].map((layer) => [layer.path, layer]));
    this.untied = untied || (head.tied && (rows.head !== undefined || paths.includes(head.linear.path)));
    const without = config.lora_bias ? paths.find((path) => !this.#linears.get(path)!.bias) : undefined;
    if (without !== undefined) {
      throw new UserError(`${where}lora_bias: '${without}' has no bias that the adapter's could be merged into.`);
    }
  }

  *entries({ tensors }: WeightIndex, dtype: MergeDType | undefined): Generator<TensorEntry> {
    const spelling = spellingOf(this.#description, { tensors });
    const { head, embedding } = this.#description;
    const stored = new Map(weightsOf(this.#description).map(({ name }) => [respell(name, spelling), name]));
    const headName = `${head.linear.path}.weight`;
    for (const [name, place] of tensors) {
      if (head.tied && name === respell(headName, spelling)) continue; // the embedding, stored once more
      yield this.#entry(name, place, stored.get(name), dtype);
    }
    const missing = [...stored.keys()].find((name) => !tensors.has(name));
    if (missing !== undefined) throw new UserError(`model: the base has no weight '${missing}'`);
    if (!this.untied) return;
    const matrix = tensors.get(respell(`${embedding.path}.weight`, spelling))!;
    yield this.#entry(respell(headName, spelling), matrix, headName, dtype);
  }

  #entry(
    storedName: string,
    place: TensorLocation,
    name: string | undefined,
    dtype: MergeDType | undefined,
  ): TensorEntry {
    const { info } = place;
    const floats = FLOATS.includes(info.dtype);
    const change = name === undefined ? undefined : this.#change(name, info.shape);
    if (change && !floats) {
      throw new UserError(
        `model: weight '${storedName}' is ${info.dtype}: an adapter is merged into F32, F16 and BF16 weights. Name the unquantized model with --model.`,
      );
    }
    if (change) this.changed++;
    const target = dtype && floats ? STORED[dtype] : info.dtype;
    if (!change && target === info.dtype) return storedEntry(storedName, place);
    const made = () => {
      const weight = this.#stored.read(place);
      return ops.to(change ? change(weight) : weight, dtype ?? dtypeOf(info));
    };
    return { name: storedName, dtype: target, shape: info.shape, data: () => finiteBytes(storedName, made) };
  }

  /** How the adapter changes a tensor of the base; undefined: not at all. */
  #change(name: string, shape: readonly number[]): Change | undefined {
    const { paths, full, rows } = this.#plan;
    const { embedding, head } = this.#description;
    const path = name.slice(0, name.lastIndexOf("."));
    const isWeight = name.endsWith(".weight");
    const changes: Change[] = [];
    if (full.has(name) || this.#adapter.isBase(name, paths))
      changes.push(() => this.#read(this.#adapter.full.get(name), name, shape));
    if (paths.includes(path)) {
      const { bias } = this.#adapter.layers.get(path) ?? {};
      if (isWeight) changes.push((weight) => this.#merged(path, weight));
      else if (this.#plan.config.lora_bias) {
        const { scaling } = this.#shapeOf(path);
        const added = () => ops.mulScalar(this.#read(bias, `${path}.${LORA_KEYS.bias}`, shape), scaling);
        changes.push((weight) => ops.add(weight, added()));
      }
    }
    const tokens = path === embedding.path ? rows.embedding : path === head.linear.path ? rows.head : undefined;
    if (tokens && isWeight) changes.push((weight) => this.#withRows(path, tokens, weight, shape));
    if (changes.length === 0) return undefined;
    return (stored) => changes.reduce((weight, change) => change(weight), ops.to(stored, "float32"));
  }

  #read(place: TensorLocation | undefined, key: string, shape: readonly number[]): Tensor {
    return ops.to(this.#adapter.read(place, `${PREFIX}${key}`, shape), "float32");
  }

  /** W + scaling·B·A, less what the base was lessened by, its rows brought to DoRA's lengths; as W is stored. */
  #merged(path: string, stored: Tensor): Tensor {
    const { in: input, out, transposed } = this.#linears.get(path)!;
    const turned = (x: Tensor) => (transposed ? ops.transpose(x, 0, 1) : x);
    const { config } = this.#plan;
    const shape = this.#shapeOf(path);
    const places = this.#adapter.layers.get(path) ?? {};
    const part = (name: keyof typeof LORA_KEYS, size: number[]) =>
      this.#read(places[name], `${path}.${LORA_KEYS[name]}`, size);
    const scaled = (b: Tensor, a: Tensor, factor: number) => ops.mulScalar(ops.matmul(b, a), factor);
    let weight = turned(stored);
    if (lessensBase(config)) {
      const { initial } = firstWeights(config, shape, [out, input], () => turned(stored));
      weight = ops.add(weight, scaled(initial!.b, initial!.a, -shape.scaling));
    }
    weight = ops.add(weight, scaled(part("b", [out, shape.r]), part("a", [shape.r, input]), shape.scaling));
    if (config.use_dora) {
      const lengths = ops.sqrt(ops.sumDim(ops.square(weight), 1)); // [out]
      weight = ops.mul(weight, ops.unsqueeze(ops.div(part("magnitude", [out]), lengths), 1));
    }
    return turned(weight);
  }

  /** The matrix with the trained rows in it. */
  #withRows(path: string, tokens: readonly number[], weight: Tensor, shape: readonly number[]): Tensor {
    const [size, width] = shape as [number, number];
    const trained = this.#read(this.#adapter.rows.get(path), `${path}.${TOKENS_KEY}`, [tokens.length, width]);
    const order = Int32Array.from({ length: size }, (_, row) => row);
    for (const [i, token] of tokens.entries()) order[token] = size + i;
    return ops.indexSelect(ops.cat([weight, trained]), 0, ops.int64(order));
  }
}

/** @throws UserError for numbers that are not finite */
async function finiteBytes(name: string, make: () => Tensor): Promise<Uint8Array> {
  const [made, check] = noGrad(() =>
    scope(() => {
      const result = make();
      // Row-major, and 0 times each number: NaN where one is not finite.
      return [ops.reshape(result, [-1]), ops.sum(ops.mulScalar(ops.to(result, "float32"), 0))] as const;
    }),
  );
  try {
    if ((await check.item()) !== 0) {
      throw new UserError(
        `merging: '${name}' would have numbers that are infinite or NaN. The adapter is broken, or --dtype float16, which ends at 65504, is too small for it.`,
      );
    }
    return await made.bytes();
  } finally {
    made.dispose();
    check.dispose();
  }
}
