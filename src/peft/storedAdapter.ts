/** An adapter's folder as PEFT writes it: its config, and its tensors by what they are. */
import { join } from "node:path";
import { ADAPTER_CONFIG } from "../files/modelFolder.js";
import { resolveWeights, type TensorLocation } from "../files/weights.js";
import type { ModelDescription } from "../models/description.js";
import { dtypeOf, StoredTensors } from "../models/storedTensors.js";
import { UserError } from "../support/errors.js";
import { ops, type Tensor } from "../torch/index.js";
import { PREFIX, readAdapterConfig } from "./adapterConfig.js";
import type { LoraConfig } from "./config.js";
import type { AdapterPlan } from "./plan.js";

/** The tensors of one layer's adapter, by the names of `LoraWeights`. */
export interface StoredLora {
  a?: TensorLocation; // [r, in]
  b?: TensorLocation; // [out, r]
  bias?: TensorLocation; // [out]
  magnitude?: TensorLocation; // [out]
}

/** What follows a layer's path, by what it is. */
export const LORA_KEYS = {
  a: "lora_A.weight",
  b: "lora_B.weight",
  bias: "lora_B.bias",
  magnitude: "lora_magnitude_vector",
} as const satisfies Record<keyof StoredLora, string>;
export const TOKENS_KEY = "token_adapter.trainable_tokens_delta";

export class StoredAdapter {
  readonly folder: string;
  readonly config: LoraConfig;
  /** As PEFT or slimtune wrote it: a folder or a hub id. */
  readonly baseModel: string | undefined;
  readonly layers = new Map<string, StoredLora>();
  /** Parameters that were trained in full, by their names in the model. */
  readonly full = new Map<string, TensorLocation>();
  /** Trained rows of a matrix, by its module's path. */
  readonly rows = new Map<string, TensorLocation>();
  readonly #tensors: StoredTensors;

  /** @throws UserError for another kind of adapter, an option that would change its result here, or a damaged file */
  static async open(folder: string): Promise<StoredAdapter> {
    const { config, baseModel } = await readAdapterConfig(folder);
    return new StoredAdapter(folder, config, baseModel, (await resolveWeights(folder, "adapter_model")).tensors);
  }

  private constructor(
    folder: string,
    config: LoraConfig,
    baseModel: string | undefined,
    tensors: ReadonlyMap<string, TensorLocation>,
  ) {
    this.folder = folder;
    this.config = config;
    this.baseModel = baseModel;
    this.#tensors = new StoredTensors();
    for (const [key, place] of tensors) this.#take(key, place);
  }

  /** Where its options stand, for messages. */
  get where(): string {
    return `adapter: ${join(this.folder, ADAPTER_CONFIG)}: `;
  }

  #take(key: string, place: TensorLocation): void {
    const name = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : "";
    // With bias: all PEFT writes the biases of a module that is trained in full three times.
    if (/\.(original_module|modules_to_save)\./.test(name)) return;
    for (const [part, ending] of Object.entries(LORA_KEYS)) {
      if (!name.endsWith(`.${ending}`)) continue;
      const path = name.slice(0, -ending.length - 1);
      this.layers.set(path, { ...this.layers.get(path), [part]: place });
      return;
    }
    if (name.endsWith(`.${TOKENS_KEY}`)) this.rows.set(name.slice(0, -TOKENS_KEY.length - 1), place);
    else if (name !== "" && !name.includes(".lora_")) this.full.set(name.replace(".base_layer.", "."), place);
    else throw new UserError(`adapter: ${this.folder} has the weight '${key}', which slimtune has no place for`);
  }

  /** A view of the file's bytes. @throws UserError for another shape */
  read(place: TensorLocation | undefined, name: string, shape: readonly number[]): Tensor {
    if (!place) {
      throw new UserError(`adapter: ${this.folder} has no weight '${name}', which its adapter_config.json asks for`);
    }
    const { file, info } = place;
    if (info.shape.join() !== shape.join()) {
      throw new UserError(
        `adapter: ${file}: '${name}' has the shape [${info.shape}], this model and adapter_config.json ask for [${shape}]`,
      );
    }
    return this.#tensors.read(place);
  }

  /** The same in float32. */
  readFloat(place: TensorLocation | undefined, name: string, shape: readonly number[]): Tensor {
    const tensor = this.read(place, name, shape);
    return dtypeOf(place!.info) === "float32" ? tensor : ops.to(tensor, "float32");
  }

  /** Whether it is the frozen weight below an adapter: PEFT saves that of a head that has one. */
  isBase(name: string, paths: readonly string[]): boolean {
    return name.endsWith(".weight") && this.full.has(name) && paths.includes(name.slice(0, -".weight".length));
  }

  /** @throws UserError for weights that the config has no place for */
  refuseOthers({ paths, full, keptTied, rows }: AdapterPlan, { embedding, head }: ModelDescription): void {
    const placed = [...(rows.embedding ? [embedding.path] : []), ...(rows.head ? [head.linear.path] : [])];
    const copy = keptTied ? `${head.linear.path}.weight` : undefined; // of the embedding
    const others = [
      ...[...this.layers.keys()].filter((path) => !paths.includes(path)).map((path) => `${path}.${LORA_KEYS.a}`),
      ...[...this.rows.keys()].filter((path) => !placed.includes(path)).map((path) => `${path}.${TOKENS_KEY}`),
      ...[...this.full.keys()].filter((name) => !full.has(name) && name !== copy && !this.isBase(name, paths)),
    ];
    if (others.length === 0) return;
    throw new UserError(
      `adapter: ${this.folder} has the weight '${PREFIX}${others[0]}', which fits no targeted layer or module of this model`,
    );
  }

  close(): void {
    this.#tensors.close();
  }
}
