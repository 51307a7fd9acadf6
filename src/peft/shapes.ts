/** Rank and scaling of each layer's adapter. */
import type { LoraConfig } from "./config.js";
import { patternValues } from "./targets.js";

export interface LoraShape {
  r: number;
  scaling: number;
}

/**
 * By the layer's path.
 * @param where the options stand, for messages
 */
export function loraShapes(config: LoraConfig, where = "lora."): (path: string) => LoraShape {
  const ranks = patternValues(config.rank_pattern, `${where}rank_pattern`);
  const alphas = patternValues(config.alpha_pattern, `${where}alpha_pattern`);
  return (path) => {
    const r = ranks(path) ?? config.r;
    const alpha = alphas(path) ?? config.lora_alpha;
    return { r, scaling: alpha / (config.use_rslora ? Math.sqrt(r) : r) };
  };
}
