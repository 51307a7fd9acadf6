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
import { resolveWeights, type TensorLocation } from "../files/weights.js";
import { resolveModel } from "../hub/index.js";
import { dtypeOf, StoredTensors } from "../models/storedTensors.js";
import { sync, writeSynced } from "../support/durable.js";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { type DType, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import { PREFIX } from "./adapterConfig.js";
import { loraShapes } from "./shapes.js";
import { LORA_KEYS, StoredAdapter, type StoredLora, TOKENS_KEY } from "./storedAdapter.js";

export const MERGE_DTYPES = ["float32", "bfloat16", "float16"] as const;
export type MergeDType = (typeof MERGE_DTYPES)[number];
const STORED = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const;
const FLOATS: readonly SafetensorsDtype[] = ["F32", "F16", "BF16"];

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

export interface Merged {
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
    const { tensors } = await resolveWeights(base);
    const config = JSON.parse((await readRegularFile(join(base, CONFIG), FILE_LIMITS.config)).toString());
    const plan = new MergePlan(adapter, tensors, stored, config.tie_word_embeddings === true);
    const entries = [...plan.entries(dtype)];
    plan.refuseOthers();
    await mkdir(made, { recursive: true });
    await copyFiles(base, adapter.folder, made);
    const { torch_dtype: _, ...rest } = config;
    const stays = { ...(plan.untied && { tie_word_embeddings: false }), ...(dtype && { dtype }) };
    await writeSynced(join(made, CONFIG), `${JSON.stringify({ ...(dtype ? rest : config), ...stays }, null, 2)}\n`);
    await writeShardedSafetensors(made, entries);
    await rmdir(folder).catch(() => {}); // an empty one
    await rename(made, folder);
    await sync(dirname(folder));
    return { folder, base, changed: plan.changed };
  } catch (error) {
    await rm(made, { recursive: true, force: true }).catch(() => {});
    if (!(error as NodeJS.ErrnoException).code || error instanceof UserError) throw error;
    throw new UserError(`--out: ${folder} cannot be written: ${(error as Error).message}`, { cause: error });
  } finally {
    stored.close();
    adapter.close();
  }
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

/** What becomes of each of the base's tensors. */
class MergePlan {
  readonly #adapter: StoredAdapter;
  readonly #base: ReadonlyMap<string, TensorLocation>;
  readonly #stored: StoredTensors;
  readonly #shapeOf: (path: string) => { r: number; scaling: number };
  readonly #used = new Set<TensorLocation>();
  readonly #tied: boolean;
  /** The head, tied to the embedding before, has weights of its own now. */
  readonly untied: boolean;
  changed = 0;

  constructor(adapter: StoredAdapter, base: ReadonlyMap<string, TensorLocation>, stored: StoredTensors, tied: boolean) {
    this.#adapter = adapter;
    this.#base = base;
    this.#stored = stored;
    this.#shapeOf = loraShapes(adapter.config, adapter.where);
    const { layers, rows, full, config } = adapter;
    const head = "lm_head";
    const own = layers.has(head) || rows.has(head) || (full.has(`${head}.weight`) && !config.ensure_weight_tying);
    // An embedding that is trained in full by itself leaves the head what it was.
    this.untied = tied && (own || (full.has(EMBEDDING) && !config.ensure_weight_tying));
    this.#tied = tied && !this.untied;
    const copy = full.get(`${head}.weight`); // of the embedding, where they are kept tied
    if (this.#tied && copy) this.#used.add(copy);
  }

  *entries(dtype: MergeDType | undefined): Generator<TensorEntry> {
    for (const [name, place] of this.#base) {
      if (this.#tied && name === "lm_head.weight") continue; // the embedding, stored once more
      yield this.#entry(name, place, dtype);
    }
    if (this.untied && !this.#base.has("lm_head.weight")) {
      yield this.#entry("lm_head.weight", this.#base.get(EMBEDDING)!, dtype);
    }
  }

  /** @throws UserError for a tensor of the adapter that found nothing to change */
  refuseOthers(): void {
    const { layers, full, rows, folder } = this.#adapter;
    const all: [string, TensorLocation | undefined][] = [
      ...[...layers].flatMap(([path, lora]) =>
        (Object.keys(LORA_KEYS) as (keyof StoredLora)[]).map((part): [string, TensorLocation | undefined] => [
          `${path}.${LORA_KEYS[part]}`,
          lora[part],
        ]),
      ),
      ...full,
      ...[...rows].map(([path, place]): [string, TensorLocation] => [`${path}.${TOKENS_KEY}`, place]),
    ];
    const lost = all.find(([, place]) => place !== undefined && !this.#used.has(place));
    if (lost === undefined) return;
    const why = lost[0].endsWith(LORA_KEYS.bias)
      ? "The layer has no bias that it could be merged into"
      : "The base model has no such layer";
    throw new UserError(`adapter: ${folder} has the weight '${PREFIX}${lost[0]}'. ${why}.`);
  }

  #entry(name: string, place: TensorLocation, dtype: MergeDType | undefined): TensorEntry {
    const { info } = place;
    const change = FLOATS.includes(info.dtype) ? this.#change(name, info.shape) : undefined;
    if (change) this.changed++;
    const target: SafetensorsDtype = dtype && FLOATS.includes(info.dtype) ? STORED[dtype] : info.dtype;
    return {
      name,
      dtype: target,
      shape: info.shape,
      data: async () => {
        if (!change && target === info.dtype) {
          const view = this.#stored.read(place);
          return view.bytes().finally(() => view.dispose());
        }
        const [made, check] = noGrad(() =>
          scope(() => {
            const weight = this.#stored.read(place);
            const whole = change ? change(weight) : weight;
            const result = ops.to(whole, dtype && FLOATS.includes(info.dtype) ? dtype : dtypeOf(info));
            return [result, ops.sum(ops.mulScalar(ops.to(result, "float32"), 0))] as const; // NaN where it is not finite
          }),
        );
        try {
          if ((await check.item()) !== 0) {
            throw new UserError(
              `merging: '${name}' would have numbers that are infinite or NaN${target === "F16" ? ": float16 ends at 65504, use bfloat16" : ""}.`,
            );
          }
          return await made.bytes();
        } finally {
          made.dispose();
          check.dispose();
        }
      },
    };
  }

  /** How the adapter changes a tensor of the base; undefined: not at all. */
  #change(name: string, shape: readonly number[]): ((weight: Tensor) => Tensor) | undefined {
    const { layers, full, rows } = this.#adapter;
    const take = (place: TensorLocation | undefined) => place && this.#used.add(place);
    const whole = full.get(name);
    const [, path, part] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
    const lora = path === undefined ? undefined : layers.get(path);
    const ofRows = part === "weight" ? rows.get(path!) : undefined;
    const hasLora = lora !== undefined && (part === "weight" || lora.bias !== undefined);
    if (!whole && !hasLora && !ofRows) return undefined;
    for (const place of [whole, ofRows]) take(place);
    if (hasLora) for (const place of part === "bias" ? [lora.bias] : [lora.a, lora.b, lora.magnitude]) take(place);
    return (stored) => {
      let weight = ops.to(whole ? this.#adapter.read(whole, name, shape) : stored, "float32");
      if (hasLora && part === "weight") weight = this.#merged(path!, lora, weight, shape);
      if (hasLora && part === "bias") {
        const bias = this.#adapter.readFloat(lora.bias, `${path}.${LORA_KEYS.bias}`, shape);
        weight = ops.add(weight, ops.mulScalar(bias, this.#shapeOf(path!).scaling));
      }
      return ofRows ? this.#withRows(path!, ofRows, weight, shape) : weight;
    };
  }

  /** W + scaling·B·A, its rows brought to DoRA's lengths: [out, in]. */
  #merged(path: string, lora: StoredLora, weight: Tensor, shape: readonly number[]): Tensor {
    const [out, input] = shape as [number, number];
    const { r, scaling } = this.#shapeOf(path);
    const read = (part: keyof StoredLora, size: number[]) =>
      this.#adapter.readFloat(lora[part], `${PREFIX}${path}.${LORA_KEYS[part]}`, size);
    const delta = ops.mulScalar(ops.matmul(read("b", [out, r]), read("a", [r, input])), scaling);
    const sum = ops.add(weight, delta);
    if (!this.#adapter.config.use_dora) return sum;
    const inverse = ops.rsqrt(ops.sumDim(ops.square(sum), 1)); // [out]
    return ops.mul(sum, ops.unsqueeze(ops.mul(read("magnitude", [out]), inverse), 1));
  }

  /** The matrix with the trained rows in it. */
  #withRows(path: string, place: TensorLocation, weight: Tensor, shape: readonly number[]): Tensor {
    const [size, width] = shape as [number, number];
    const tokens = this.#adapter.tokensOf(path);
    const foreign = tokens.find((token) => token >= size);
    if (foreign !== undefined) {
      throw new UserError(
        `${this.#adapter.where}trainable_token_indices: ${foreign} is none of the ${size} rows of '${path}'`,
      );
    }
    const trained = this.#adapter.readFloat(place, `${PREFIX}${path}.${TOKENS_KEY}`, [tokens.length, width]);
    const order = Int32Array.from({ length: size }, (_, row) => row);
    for (const [i, token] of tokens.entries()) order[token] = size + i;
    return ops.indexSelect(ops.cat([weight, trained]), 0, ops.int64(order));
  }
}

const EMBEDDING = "model.embed_tokens.weight";
