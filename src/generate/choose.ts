/** Choosing the next token: the likeliest, or a draw, with transformers' options and their order. */
import { ops, scope, type Tensor } from "../torch/index.js";

/** How the next token is chosen, by transformers' names. */
export interface SamplingOptions {
  /** Draw at random; otherwise always the likeliest token. */
  do_sample?: boolean;
  /** Divides the logits: below 1 sharper, above 1 flatter. Default: 1. */
  temperature?: number;
  /** Only among so many of the likeliest tokens; 0: all. Default: 50. */
  top_k?: number;
  /** Only among the likeliest tokens whose probabilities add up to this; 1: all. Default: 1. */
  top_p?: number;
}

/** One token for each row of logits, [B, V]; frees the logits. */
export async function chooseTokens(logits: Tensor, rows: number, options: SamplingOptions): Promise<number[]> {
  try {
    if (!options.do_sample) {
      const best = scope(() => ops.argmax(logits, -1));
      const ids = Array.from((await best.values()) as BigInt64Array, Number);
      best.dispose();
      return ids;
    }
    const random = scope(() => {
      const draws = ops.empty([rows]);
      ops.uniform_(draws, 0, 1);
      return draws;
    });
    const [values, draws] = await Promise.all([logits.values(), random.values()]);
    random.dispose();
    const vocabulary = values.length / rows;
    return Array.from({ length: rows }, (_, row) =>
      draw((values as Float32Array).subarray(row * vocabulary, (row + 1) * vocabulary), Number(draws[row]), options),
    );
  } finally {
    logits.dispose();
  }
}

/** Temperature, then the top_k likeliest, then the fewest of them that reach top_p; one is drawn by its share. */
export function draw(logits: Float32Array, uniform: number, options: SamplingOptions): number {
  const { temperature = 1, top_k = 50, top_p = 1 } = options;
  let ids = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  if (top_k > 0) ids = ids.slice(0, top_k);
  const highest = logits[ids[0]!]!;
  const weights = ids.map((id) => Math.exp((logits[id]! - highest) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let kept = 0;
  let mass = 0;
  while (kept < ids.length && (kept === 0 || mass < top_p * total)) mass += weights[kept++]!;
  let rest = uniform * mass;
  for (let i = 0; i < kept; i++) {
    rest -= weights[i]!;
    if (rest < 0) return ids[i]!;
  }
  return ids[kept - 1]!;
}
