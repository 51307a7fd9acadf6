import { either, field, group, mapping, number, oneOf, orNull, text } from "./field.js";

/** The schedules of transformers 5.18. */
const SCHEDULES = [
  "linear",
  "cosine",
  "cosine_with_restarts",
  "polynomial",
  "constant",
  "constant_with_warmup",
  "inverse_sqrt",
  "reduce_lr_on_plateau",
  "cosine_with_min_lr",
  "cosine_warmup_with_min_lr",
  "warmup_stable_decay",
  "greedy",
] as const;

export const schedule = group(
  "Learning rate",
  "How large the updates are over time. A loss that jumps or diverges: lower learning_rate or add warm-up. " +
    "One that hardly falls: raise it. LoRA likes 1e-4 to 3e-4, full fine-tuning about ten times less.",
  {
    learning_rate: field(number({ min: 0 }), {
      default: 5e-5,
      fate: "honoured",
      help: "The peak of the schedule.",
    }),
    lr_scheduler_type: field(oneOf(SCHEDULES), {
      default: "linear",
      fate: "honoured",
      help: "The curve of the learning rate after warm-up. constant has no warm-up; constant_with_warmup has. reduce_lr_on_plateau and greedy have none either: they follow metric_for_best_model at each evaluation.",
    }),
    lr_scheduler_kwargs: field(orNull(either(mapping(), text())), {
      default: null,
      fate: "honoured",
      help: "Parameters of the curve, for instance {num_cycles: 2} for cosine_with_restarts or {min_lr_rate: 0.1} for cosine_with_min_lr.",
    }),
    warmup_steps: field(number({ min: 0 }), {
      default: 0,
      fate: "honoured",
      help: "Updates in which the learning rate rises from 0 to its peak; below 1, a share of all updates.",
    }),
  },
);
