import { boolean, field, group, integer, number, oneOf, orNull, text, textList } from "./field.js";

const NOT_BUILT = "evaluation during training is not built yet; remove it";
const NOTHING = "nothing is evaluated in this version (eval_strategy must be no)";

export const evaluation = group(
  "Evaluation",
  "Measuring on held-out data during a run. Not built in this version: asking for it is refused, its details change nothing.",
  {
    eval_strategy: field(oneOf(["no", "steps", "epoch"]), {
      default: "no",
      fate: "refused",
      why: NOT_BUILT,
      help: "Evaluate never, every eval_steps updates, or after each epoch.",
    }),
    eval_on_start: field(boolean(), {
      default: false,
      fate: "refused",
      why: NOT_BUILT,
      help: "Evaluate once before the first update.",
    }),
    load_best_model_at_end: field(boolean(), {
      default: false,
      fate: "refused",
      why: "it needs evaluation, which is not built yet; remove it",
      help: "End with the weights of the checkpoint that evaluated best.",
    }),
    eval_steps: field(orNull(number({ min: 0 })), {
      default: null,
      fate: "no-effect",
      why: NOTHING,
      help: "Updates between two evaluations; below 1, a share of all updates.",
    }),
    eval_delay: field(number({ min: 0 }), {
      default: 0,
      fate: "no-effect",
      why: NOTHING,
      help: "Updates or epochs before the first evaluation.",
    }),
    per_device_eval_batch_size: field(integer({ min: 1 }), {
      default: 8,
      fate: "no-effect",
      why: NOTHING,
      help: "Examples evaluated at once on one device.",
    }),
    eval_accumulation_steps: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "no-effect",
      why: NOTHING,
      help: "Batches after which predictions move to host memory.",
    }),
    prediction_loss_only: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: NOTHING,
      help: "Compute only the loss when evaluating.",
    }),
    metric_for_best_model: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: NOTHING,
      help: "The metric that says which checkpoint is best.",
    }),
    greater_is_better: field(orNull(boolean()), {
      default: null,
      fate: "no-effect",
      why: NOTHING,
      help: "Whether a larger metric_for_best_model is better.",
    }),
    eval_do_concat_batches: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: NOTHING,
      help: "Join the predictions of all batches.",
    }),
    eval_use_gather_object: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: NOTHING,
      help: "Gather nested predictions from all devices.",
    }),
    include_for_metrics: field(textList(), {
      default: [],
      fate: "no-effect",
      why: NOTHING,
      help: 'What a metric function gets besides predictions and labels: "inputs", "loss".',
    }),
    batch_eval_metrics: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: NOTHING,
      help: "Call the metric function batch by batch.",
    }),
  },
);
