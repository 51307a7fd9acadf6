/** The optimizers by the names that `optim` takes. */
import { adafactor } from "./adafactor.js";
import { adagrad } from "./adagrad.js";
import { type AdamWConfig, adamW, adamW8bit } from "./adamw.js";
import { type AdEMAMixConfig, adEMAMix } from "./ademamix.js";
import { lion } from "./lion.js";
import { OptimArgs } from "./optimArgs.js";
import { type RMSpropConfig, rmsprop } from "./rmsprop.js";
import { type SGDConfig, sgd } from "./sgd.js";
import type { UpdateRule } from "./updateRule.js";

export interface OptimizerChoice {
  rule: UpdateRule;
  /** Present where the states are paged. */
  paging?: { /** Bytes to keep in memory; undefined: the system decides. */ budget: number | undefined };
}

/** `adam_beta1`, `adam_beta2` and `adam_epsilon`. */
export type AdamArguments = AdamWConfig;

type Make = (adam: AdamArguments, args: OptimArgs) => UpdateRule;

const RULES: Record<string, Make> = {
  adamw_torch: adamW, // one fused op serves both names: the update is the same
  adamw_torch_fused: adamW,
  adamw_8bit: adamW8bit,
  adamw_bnb_8bit: adamW8bit,
  paged_adamw_32bit: adamW,
  paged_adamw_8bit: adamW8bit,
  lion_32bit: (adam) => lion(adam, 32),
  lion_8bit: (adam) => lion(adam, 8),
  paged_lion_32bit: (adam) => lion(adam, 32),
  paged_lion_8bit: (adam) => lion(adam, 8),
  ademamix: (adam, args) => adEMAMix(adEMAMixConfig(adam, args), 32),
  ademamix_8bit: (adam, args) => adEMAMix(adEMAMixConfig(adam, args), 8),
  paged_ademamix_32bit: (adam, args) => adEMAMix(adEMAMixConfig(adam, args), 32),
  paged_ademamix_8bit: (adam, args) => adEMAMix(adEMAMixConfig(adam, args), 8),
  adafactor: () => adafactor(),
  sgd: (_, args) => sgd(sgdConfig(args)),
  rmsprop: (_, args) => rmsprop(rmspropConfig(args), 32),
  rmsprop_bnb: (_, args) => rmsprop(bnbRMSpropConfig(args), 32),
  rmsprop_bnb_32bit: (_, args) => rmsprop(bnbRMSpropConfig(args), 32),
  rmsprop_bnb_8bit: (_, args) => rmsprop(bnbRMSpropConfig(args), 8),
  adagrad: (_, args) =>
    adagrad({ eps: args.number("eps", 1e-10, { min: 0 }), lrDecay: args.number("lr_decay", 0, { min: 0 }) }),
};

/** Names that are built. */
export const OPTIMIZER_NAMES: readonly string[] = Object.keys(RULES);

/**
 * @param optim one of OPTIMIZER_NAMES
 * @throws UserError when `optim_args` has a name or value that the optimizer does not take
 */
export function chooseOptimizer(optim: string, optimArgs: string | null, adam: AdamArguments): OptimizerChoice {
  const args = new OptimArgs(optim, optimArgs);
  const rule = RULES[optim]!(adam, args);
  const paging = optim.startsWith("paged_") ? { budget: args.optionalBytes("page_budget") } : undefined;
  args.refuseUnread();
  return { rule, ...(paging && { paging }) };
}

function adEMAMixConfig(adam: AdamArguments, args: OptimArgs): AdEMAMixConfig {
  const tBeta3 = args.optionalNumber("t_beta3", { min: 1 });
  return {
    beta1: args.number("beta1", adam.beta1, { min: 0, below: 1, ...(tBeta3 && { above: 0 }) }),
    beta2: args.number("beta2", adam.beta2, { min: 0, below: 1 }),
    beta3: args.number("beta3", 0.9999, { min: 0, below: 1, ...(tBeta3 && { above: 0 }) }),
    alpha: args.number("alpha", 5),
    eps: args.number("eps", adam.eps, { min: 0 }),
    tAlpha: args.optionalNumber("t_alpha", { min: 1 }),
    tBeta3,
  };
}

function sgdConfig(args: OptimArgs): SGDConfig {
  const config = {
    momentum: args.number("momentum", 0, { min: 0 }),
    dampening: args.number("dampening", 0),
    nesterov: args.flag("nesterov"),
  };
  if (config.nesterov && (config.momentum === 0 || config.dampening !== 0)) {
    args.fail("nesterov needs a momentum above 0 and no dampening");
  }
  return config;
}

function rmspropConfig(args: OptimArgs): RMSpropConfig {
  return {
    ...bnbRMSpropConfig(args),
    momentum: args.number("momentum", 0, { min: 0 }),
    centered: args.flag("centered"),
  };
}

/** bitsandbytes' form has neither momentum nor a centered variance. */
function bnbRMSpropConfig(args: OptimArgs): RMSpropConfig {
  const alpha = args.number("alpha", 0.99, { min: 0, below: 1 });
  return { alpha, eps: args.number("eps", 1e-8, { min: 0 }), momentum: 0, centered: false };
}
