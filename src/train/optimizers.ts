/** The optimizer that `optim` names. */
import { UserError } from "../errors.js";
import { AdamW } from "../optim/adamw.js";
import { parsePagingArguments } from "../optim/optimArgs.js";
import type { Optimizer, TrainedParameter } from "../optim/optimizer.js";
import { PagedStateMemory, PlainStateMemory } from "../optim/stateMemory.js";
import type { Device } from "../torch/index.js";
import type { TrainingArguments } from "./arguments/index.js";

export function createOptimizer(
  parameters: readonly TrainedParameter[],
  args: TrainingArguments,
  device: Device,
): Optimizer {
  const config = {
    beta1: args.adam_beta1,
    beta2: args.adam_beta2,
    eps: args.adam_epsilon,
    weightDecay: args.weight_decay,
  };
  switch (args.optim) {
    case "adamw_torch": // one fused op serves both names: the update is the same
    case "adamw_torch_fused":
      return new AdamW(parameters, config, new PlainStateMemory(device));
    case "paged_adamw_32bit": {
      const { page_budget: budget } = parsePagingArguments(args.optim_args);
      return new AdamW(parameters, config, new PagedStateMemory(args.output_dir, budget));
    }
    default:
      throw new UserError(`optim: '${args.optim}' is not built in this version. Use adamw_torch_fused.`);
  }
}
