/** Which parameters decay: the Trainer's rule, by name. */

const withoutDecay = [/bias/i, /layernorm/i, /rmsnorm/i, /(?:^|\.)norm(?:$|\.)/i, /_norm(?:$|\.)/i];

/** Biases and norms do not decay; embeddings, the head and LoRA's matrices do. */
export function decays(name: string): boolean {
  return !withoutDecay.some((pattern) => pattern.test(name));
}
