/** What a model makes of labelled tokens: its loss on each, its likeliest token, how sure it is. */
import { ops, type Tensor } from "../torch/index.js";

export interface ScoreOptions {
  /** Also the likeliest token and the entropy of each place; they cost two more passes over the logits. */
  statistics: boolean;
  /** Above 0: also the loss with this label smoothing. */
  labelSmoothing: number;
}

/** One number for each of L labelled tokens; entropies are in nats. */
export interface TokenScores {
  losses: Tensor; // [L], -log p(label), float32
  smoothed?: Tensor; // [L], float32
  predictions?: Tensor; // [L], int64
  entropies?: Tensor; // [L], float32
}

/** Scores of one block of logits, [L, V] in float32. */
export function scoreTokens(logits: Tensor, targets: Tensor, options: ScoreOptions): TokenScores {
  const scores: TokenScores = { losses: ops.crossEntropyEach(logits, targets) };
  if (options.labelSmoothing > 0) scores.smoothed = ops.crossEntropyEach(logits, targets, options.labelSmoothing);
  if (options.statistics) {
    scores.predictions = ops.argmax(logits, -1);
    const logs = ops.logSoftmax(logits, -1);
    scores.entropies = ops.neg(ops.sumDim(ops.mul(ops.exp(logs), logs), -1));
  }
  return scores;
}

/** The scores of several blocks as those of one. */
export function joinScores(blocks: readonly TokenScores[]): TokenScores {
  if (blocks.length === 1) return blocks[0]!;
  const join = (name: keyof TokenScores) =>
    blocks[0]![name] ? { [name]: ops.cat(blocks.map((block) => block[name]!)) } : {};
  return { losses: join("losses").losses!, ...join("smoothed"), ...join("predictions"), ...join("entropies") };
}
