/** A model, with the adapter of a folder on it or none, to measure it or to generate with it. */
import type { CausalLM } from "../models/causalLM.js";
import { describeModel, type LoadOptions, loadCausalLM } from "../models/load.js";
import type { DType } from "../torch/index.js";
import { loadAdapter, loadOptionsFor } from "./adapter.js";
import { planAdapter } from "./plan.js";
import { StoredAdapter } from "./storedAdapter.js";

/**
 * @param adapter its folder; undefined: the model alone
 * @param dtype what the adapter's weights are rounded to; default: float32
 */
export async function loadAdapted(
  folder: string,
  adapter: string | undefined,
  options: Omit<LoadOptions, "trained" | "untied">,
  dtype?: DType,
): Promise<CausalLM> {
  if (adapter === undefined) return loadCausalLM(folder, options);
  const stored = await StoredAdapter.open(adapter);
  try {
    const { config, where } = stored;
    const quantized = options.quantization !== undefined;
    const plan = planAdapter(config, (await describeModel(folder)).description, { where, quantized });
    const model = await loadCausalLM(folder, { ...options, ...loadOptionsFor(plan) });
    try {
      loadAdapter(model, plan, stored, dtype);
      return model;
    } catch (error) {
      model.dispose();
      throw error;
    }
  } finally {
    stored.close();
  }
}
