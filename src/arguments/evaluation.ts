import { boolean, field, group, integer, number, oneOf, orNull, text, textList } from "./field.js";

export const evaluation = group(
  "Evaluation",
  "Measuring on held-out data during a run, which needs an eval_dataset. A loss that falls in training and rises here " +
    "means that the model learns the examples by heart: train shorter, or keep the best checkpoint with load_best_model_at_end.",
  {
    eval_strategy: field(oneOf(["no", "steps", "epoch"]), {
      default: "no",
      fate: "honoured",
      help: "Evaluate never, every eval_steps updates (and after the last one), or after each epoch.",
    }),
    eval_steps: field(orNull(number({ min: 0 })), {
      default: null,
      fate: "honoured",
      help: "Updates between two evaluations; below 1, a share of all updates. null or 0: as logging_steps.",
    }),
    eval_delay: field(number({ min: 0 }), {
      default: 0,
      fate: "honoured",
      help: "Updates (with eval_strategy steps) or epochs (with epoch) before the first evaluation.",
    }),
    eval_on_start: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Evaluate once before the first update: the number that training has to beat.",
    }),
    per_device_eval_batch_size: field(integer({ min: 1 }), {
      default: 8,
      fate: "honoured",
      help: "Examples evaluated at once on one device. It changes speed and memory only: eval_loss is weighted by tokens.",
    }),
    prediction_loss_only: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Compute only eval_loss and eval_perplexity: no accuracy, no entropy, and computeMetrics is not called.",
    }),
    load_best_model_at_end: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "End with the weights of the checkpoint that evaluated best. Needs save_strategy: best, or one equal to eval_strategy.",
    }),
    metric_for_best_model: field(orNull(text()), {
      default: null,
      fate: "honoured",
      help: "The metric that says which checkpoint is best: loss, mean_token_accuracy, or one of your own, with or without eval_. null: loss, where one is needed.",
    }),
    greater_is_better: field(orNull(boolean()), {
      default: null,
      fate: "honoured",
      help: 'Whether a larger metric_for_best_model is better. null: yes, unless its name ends in "loss".',
    }),
    eval_accumulation_steps: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "no-effect",
      why: "logits are never kept: a prediction is one token id, which is in host memory at once",
      help: "Batches after which predictions move to host memory.",
    }),
    eval_do_concat_batches: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: "a metric function gets a list of examples, without padding and without batches",
      help: "Join the predictions of all batches.",
    }),
    eval_use_gather_object: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: "a run is one process on one machine",
      help: "Gather nested predictions from all devices.",
    }),
    include_for_metrics: field(textList(), {
      default: [],
      fate: "no-effect",
      why: "a metric function always gets the inputs and the loss of every token",
      help: 'What a metric function gets besides predictions and labels: "inputs", "loss".',
    }),
    batch_eval_metrics: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: "predictions are token ids and need little memory, so that a metric function gets all examples at once",
      help: "Call the metric function batch by batch.",
    }),
  },
);
