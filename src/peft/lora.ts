/** Adapters on a model: new ones with PEFT's initial weights, or ones read from a PEFT folder. */
import type { CausalLM } from "../models/causalLM.js";
import type { LoraWeights } from "../models/linear.js";
import { type Device, keep, noGrad, ops, scope } from "../torch/index.js";
import type { LoraConfig } from "./config.js";
import { patternValues, targetPaths } from "./targets.js";

/**
 * Rank and scaling of each layer's adapter, by the layer's path.
 * @param where the options stand, for messages
 */
export function loraShapes(config: LoraConfig, where = "lora."): (path: string) => { r: number; scaling: number } {
  const ranks = patternValues(config.rank_pattern, `${where}rank_pattern`);
  const alphas = patternValues(config.alpha_pattern, `${where}alpha_pattern`);
  return (path) => {
    const r = ranks(path) ?? config.r;
    const alpha = alphas(path) ?? config.lora_alpha;
    return { r, scaling: alpha / (config.use_rslora ? Math.sqrt(r) : r) };
  };
}

/**
 * Draws an adapter's weights from the default generator, with the draws that PEFT makes: two for the constructors of
 * its two layers, thrown away, then A. B is zero. As PEFT, it draws on the CPU for every device: the same numbers.
 */
function drawWeights(
  r: number,
  inputs: number,
  outputs: number,
  gaussian: boolean,
  device: Device,
): { a: LoraWeights["a"]; b: LoraWeights["b"] } {
  return noGrad(() =>
    scope(() => {
      const bound = 1 / Math.sqrt(inputs); // Kaiming uniform with a = √5
      const a = ops.empty([r, inputs]);
      ops.uniform_(a, -bound, bound);
      ops.uniform_(ops.empty([outputs, r]), -1, 1);
      if (gaussian) ops.normal_(a, 0, 1 / r);
      else ops.uniform_(a, -bound, bound);
      return { a: ops.toDevice(a, device, "float32"), b: ops.zeros([outputs, r], "float32", device) };
    }),
  );
}

/** Puts a new adapter on every targeted layer; returns their paths. */
export function addLora(model: CausalLM, config: LoraConfig): string[] {
  const paths = targetPaths(config, [...model.linears.keys()]);
  const shapeOf = loraShapes(config);
  for (const path of paths) {
    const layer = model.linears.get(path)!;
    const { r, scaling } = shapeOf(path);
    const gaussian = config.init_lora_weights === "gaussian";
    const { a, b } = drawWeights(r, layer.inFeatures, layer.outFeatures, gaussian, model.decoder.device);
    layer.lora = { a: keep(a), b: keep(b), rank: r, scaling, dropout: config.lora_dropout };
  }
  return paths;
}
