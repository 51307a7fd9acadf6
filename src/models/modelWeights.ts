/** The weights of a model's files by the names that its description has for them. */
import { sameBytes } from "../files/sameBytes.js";
import type { WeightIndex } from "../files/weights.js";
import { UserError } from "../support/errors.js";
import type { DType, Tensor } from "../torch/index.js";
import type { ModelDescription, Spelling } from "./description.js";
import { dtypeOf, StoredTensors } from "./storedTensors.js";

/** Tables that older versions of transformers stored, and that are computed from the config; Python leaves them out, too. */
const COMPUTED = /\brotary_emb\.(inv_freq|cos_cached|sin_cached)$/;

export class ModelWeights {
  readonly #index: WeightIndex;
  readonly #description: ModelDescription;
  readonly #stored: StoredTensors;
  readonly #spelling: Spelling;
  readonly #used = new Set<string>();

  constructor(index: WeightIndex, description: ModelDescription) {
    this.#index = index;
    this.#description = description;
    this.#stored = new StoredTensors(index.headers);
    this.#spelling = spellingOf(description, index);
  }

  /** The tensor as it lies in its file, of the shape that config.json asks for, and its name there. */
  tensor(name: string, shape: number[]): { tensor: Tensor; dtype: DType; name: string } {
    const stored = respell(name, this.#spelling);
    const found = this.#stored.find(stored);
    if (!found) {
      throw new UserError(`model: ${this.#index.folder} has no weight '${stored}', which its config.json asks for`);
    }
    this.#used.add(stored);
    const { file, info } = found;
    if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i])) {
      throw new UserError(
        `model: ${file}: weight '${stored}' has the shape [${info.shape}], config.json asks for [${shape}]`,
      );
    }
    const dtype = dtypeOf(info);
    if (!["float32", "float16", "bfloat16"].includes(dtype)) {
      throw new UserError(
        `model: ${file}: weight '${stored}' is ${info.dtype}; F32, F16 and BF16 weights are supported`,
      );
    }
    return { tensor: this.#stored.read(found), dtype, name: stored };
  }

  /** @throws UserError naming the first weight that no module took; Python warns and computes with a part of the model */
  refuseOthers(): void {
    const { head, others } = this.#description;
    // A tied head is the embedding, stored once more.
    const tied = head.tied ? respell(`${head.linear.path}.weight`, this.#spelling) : undefined;
    const known = (name: string) =>
      this.#used.has(name) ||
      name === tied ||
      COMPUTED.test(name) ||
      others?.ignored?.test(name) === true ||
      others?.carried?.test(name) === true;
    const unexpected = [...this.#index.tensors.keys()].filter((name) => !known(name));
    const first = unexpected[0];
    if (first === undefined) return;
    throw new UserError(
      `model: ${this.#index.folder} has ${unexpected.length} weights that its config.json has no place for, the first is '${first}'. ` +
        "Compare the number of layers, the biases and tie_word_embeddings in config.json with the weights, or download the model again.",
    );
  }

  close(): void {
    this.#stored.close();
  }
}

/** How the files spell weights' names. */
export function spellingOf(
  { embedding, head, spellings }: ModelDescription,
  { tensors }: Pick<WeightIndex, "tensors">,
): Spelling {
  const telling = [embedding, ...(head.tied ? [] : [head.linear])].map(({ path }) => `${path}.weight`);
  return spellings.find((spelling) => telling.every((name) => tensors.has(respell(name, spelling)))) ?? [];
}

/**
 * The description with its head untied where the files hold one of its own: like transformers, which goes by the weights
 * where config.json says something else (or nothing, where a class's default is to tie).
 */
export async function tiedAsStored(description: ModelDescription, index: WeightIndex): Promise<ModelDescription> {
  const { embedding, head } = description;
  const spelling = spellingOf(description, index);
  const [rows, own] = [embedding, head.linear].map(({ path }) =>
    index.tensors.get(respell(`${path}.weight`, spelling)),
  );
  if (!head.tied || !rows || !own || (await sameBytes(rows, own))) return description;
  return { ...description, head: { ...head, tied: false } };
}

export function respell(name: string, spelling: Spelling): string {
  const pair = spelling.find(([prefix]) => name.startsWith(prefix));
  return pair ? pair[1] + name.slice(pair[0].length) : name;
}
