import { OPTIMIZER_NAMES } from "../optim/catalogue.js";
import { either, field, group, number, oneOf, orNull, text, textList } from "./field.js";

/** The optimizers of transformers 5.18. */
const OPTIMIZERS = [
  "adamw_torch",
  "adamw_torch_fused",
  "adamw_torch_xla",
  "adamw_torch_npu_fused",
  "adafactor",
  "adamw_anyprecision",
  "adamw_torch_4bit",
  "adamw_torch_8bit",
  "ademamix",
  "sgd",
  "adagrad",
  "adamw_bnb_8bit",
  "adamw_8bit",
  "ademamix_8bit",
  "lion_8bit",
  "lion_32bit",
  "paged_adamw_32bit",
  "paged_adamw_8bit",
  "paged_ademamix_32bit",
  "paged_ademamix_8bit",
  "paged_lion_32bit",
  "paged_lion_8bit",
  "rmsprop",
  "rmsprop_bnb",
  "rmsprop_bnb_8bit",
  "rmsprop_bnb_32bit",
  "galore_adamw",
  "galore_adamw_8bit",
  "galore_adafactor",
  "galore_adamw_layerwise",
  "galore_adamw_8bit_layerwise",
  "galore_adafactor_layerwise",
  "lomo",
  "adalomo",
  "grokadamw",
  "schedule_free_radam",
  "schedule_free_adamw",
  "schedule_free_sgd",
  "apollo_adamw",
  "apollo_adamw_layerwise",
  "stable_adamw",
] as const;

export const optimizer = group(
  "Optimizer",
  "How gradients become updates. The defaults of AdamW suit most fine-tuning; learning_rate (next group) matters far more.",
  {
    optim: field(oneOf(OPTIMIZERS), {
      default: "adamw_torch_fused",
      fate: "honoured",
      refuse: (name) =>
        OPTIMIZER_NAMES.includes(name) ? undefined : `not built; use one of ${OPTIMIZER_NAMES.join(", ")}`,
      help: "The optimizer. 8-bit ones keep their states in a quarter of the memory; paged ones keep them in pages that move to disk when memory runs short, or beyond optim_args' page_budget. Which one when: docs/optimizers.md.",
    }),
    optim_args: field(orNull(text()), {
      default: null,
      fate: "honoured",
      help: 'Extra arguments of the optimizer, as "name=value,name=value". sgd: momentum, dampening, nesterov. rmsprop: alpha, eps, momentum, centered. rmsprop_bnb: alpha, eps. adagrad: lr_decay, eps. ademamix: beta1, beta2, beta3, alpha, eps, t_alpha, t_beta3. Paged ones: page_budget, how much of their states stays in memory, such as page_budget=64MiB.',
    }),
    optim_target_modules: field(orNull(either(text(), textList())), {
      default: null,
      fate: "refused",
      why: "it belongs to the GaLore and APOLLO optimizers, which are not built; remove it",
      help: "Modules that a low-rank optimizer projects.",
    }),
    weight_decay: field(number({ min: 0 }), {
      default: 0.0,
      fate: "honoured",
      help: "Weight decay: of sgd, rmsprop and adagrad a part of the gradient, else decoupled from it. Biases and the weights of norms are never decayed.",
    }),
    adam_beta1: field(number({ min: 0, below: 1 }), {
      default: 0.9,
      fate: "honoured",
      help: "Decay of the running mean of the gradients, of AdamW, Lion and AdEMAMix.",
    }),
    adam_beta2: field(number({ min: 0, below: 1 }), {
      default: 0.999,
      fate: "honoured",
      help: "Decay of the running mean of the squared gradients, of AdamW and AdEMAMix; of Lion, of the mean that it keeps.",
    }),
    adam_epsilon: field(number({ min: 0 }), {
      default: 1e-8,
      fate: "honoured",
      help: "Added to the denominator of an update, of AdamW and AdEMAMix.",
    }),
    max_grad_norm: field(number({ min: 0 }), {
      default: 1.0,
      fate: "honoured",
      help: "Gradients are scaled down so that their norm over all trained weights is at most this. 0: no clipping (grad_norm is still logged).",
    }),
  },
);
