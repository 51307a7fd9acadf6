/** The optimizer that `optim` names. */
import { UserError } from "../errors.js";
import { AdamW } from "../optim/adamw.js";
import type { Optimizer, TrainedParameter } from "../optim/optimizer.js";
import type { TrainingArguments } from "./arguments/index.js";

export function createOptimizer(parameters: readonly TrainedParameter[], args: TrainingArguments): Optimizer {
  switch (args.optim) {
    case "adamw_torch": // one fused op serves both names: the update is the same
    case "adamw_torch_fused":
      return new AdamW(parameters, {
        beta1: args.adam_beta1,
        beta2: args.adam_beta2,
        eps: args.adam_epsilon,
        weightDecay: args.weight_decay,
      });
    default:
      throw new UserError(`optim: '${args.optim}' is not built in this version. Use adamw_torch_fused.`);
  }
}
