/** The optimizer that `optim` names. */

import type { TrainingArguments } from "../arguments/index.js";
import { chooseOptimizer } from "../optim/catalogue.js";
import type { Optimizer, TrainedParameter } from "../optim/optimizer.js";
import { diskTier, hostTier } from "../optim/pageTiers.js";
import { RuleOptimizer } from "../optim/ruleOptimizer.js";
import { PagedStateMemory, PlainStateMemory } from "../optim/stateMemory.js";
import type { Device } from "../torch/index.js";

export function createOptimizer(
  parameters: readonly TrainedParameter[],
  args: TrainingArguments,
  device: Device,
): Optimizer {
  const adam = { beta1: args.adam_beta1, beta2: args.adam_beta2, eps: args.adam_epsilon };
  const { rule, paging } = chooseOptimizer(args.optim, args.optim_args, adam);
  const tier = () => (device === "cpu" ? diskTier(args.output_dir) : hostTier(device));
  const memory = paging ? new PagedStateMemory(tier(), paging.budget) : new PlainStateMemory(device);
  return new RuleOptimizer(parameters, rule, args.weight_decay, memory);
}
