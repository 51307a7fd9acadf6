/** Adapters on models that are in memory already. */
import type { CausalLM } from "../../src/models/causalLM.js";
import { addAdapter } from "../../src/peft/adapter.js";
import { type LoraConfigInput, loraSchema } from "../../src/peft/config.js";
import { type AdapterPlan, planAdapter } from "../../src/peft/plan.js";

/** Puts a new adapter on the model; none of its own weights may be trained by it. */
export function addLora(model: CausalLM, config: LoraConfigInput): AdapterPlan {
  const plan = planAdapter(loraSchema.parse(config), model.description);
  addAdapter(model, plan);
  return plan;
}
