/** Weights of a model folder that its config.json has no place for: the two do not belong together. */
import type { WeightIndex } from "../files/weights.js";
import { UserError } from "../support/errors.js";

/** Tables that older versions of transformers stored, and that are computed from the config; Python leaves them out, too. */
const COMPUTED = /\brotary_emb\.(inv_freq|cos_cached|sin_cached)$/;

/**
 * @param used names of the weights that a module took
 * @throws UserError naming the first of the others; Python warns and computes with a part of the model
 */
export function refuseUnexpected({ folder, tensors }: WeightIndex, used: ReadonlySet<string>, tied: boolean): void {
  const others = [...tensors.keys()].filter((name) => !used.has(name) && !COMPUTED.test(name));
  // A tied head is the embedding, stored once more.
  const unexpected = tied ? others.filter((name) => name !== "lm_head.weight") : others;
  const first = unexpected[0];
  if (first === undefined) return;
  throw new UserError(
    `model: ${folder} has ${unexpected.length} weights that its config.json has no place for, the first is '${first}'. ` +
      "Compare num_hidden_layers, attention_bias, mlp_bias and tie_word_embeddings with the weights, or download the model again.",
  );
}
