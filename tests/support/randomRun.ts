/** Runs of a second at random, with everything that a stop or a crash could spoil. */
import fc from "fast-check";
import type { TrainerConfig, TrainingArgumentsInput } from "../../src/index.js";
import { fixturePath } from "./goldens.js";

/** A run's config, but for its output_dir. */
export interface RandomRun {
  args: TrainingArgumentsInput;
  more: Omit<TrainerConfig, "training_args">;
}

const METRICS = ["loss", "entropy", "mean_token_accuracy"] as const;

const ending = fc.oneof(
  fc.record({ max_steps: fc.integer({ min: 2, max: 8 }) }),
  fc.record({ num_train_epochs: fc.constantFrom(1, 1.5, 2) }),
);

const data = fc.record({
  per_device_train_batch_size: fc.constantFrom(3, 4),
  gradient_accumulation_steps: fc.constantFrom(1, 2, 3),
  train_sampling_strategy: fc.constantFrom("random", "group_by_length", "sequential"),
  dataloader_drop_last: fc.boolean(),
  packing: fc.constantFrom(false, false, true),
});

const training = fc.record({
  neftune_noise_alpha: fc.constantFrom(null, null, 5),
  optim: fc.constantFrom("adamw_torch", "adamw_torch_fused", "paged_adamw_8bit", "adafactor", "sgd"),
  learning_rate: fc.constantFrom(5e-3, 3e-2),
  lr_scheduler_type: fc.constantFrom("linear", "cosine", "reduce_lr_on_plateau"),
  warmup_steps: fc.constantFrom(0, 2),
  fp16: fc.constantFrom(false, false, false, true),
  include_num_input_tokens_seen: fc.constantFrom("no", "all"),
});

const logging = fc.record({
  logging_strategy: fc.constantFrom("steps", "steps", "epoch", "no"),
  logging_steps: fc.constantFrom(1, 2, 3, 0.5),
  logging_first_step: fc.boolean(),
});

const evaluation = fc.record({
  eval_strategy: fc.constantFrom("no", "steps", "epoch"),
  eval_steps: fc.constantFrom(1, 2, 3),
  eval_on_start: fc.boolean(),
  eval_delay: fc.constantFrom(0, 0, 2),
  per_device_eval_batch_size: fc.constantFrom(2, 5),
  metric_for_best_model: fc.constantFrom(...METRICS),
});

const saving = fc.record({
  save_strategy: fc.constantFrom("no", "steps", "epoch", "best"),
  save_steps: fc.constantFrom(1, 2, 3, 4),
  save_total_limit: fc.constantFrom(null, 1, 2, 3),
  load_best_model_at_end: fc.boolean(),
});

/** Every config is one that the arguments' own rules allow. */
export const randomRun: fc.Arbitrary<RandomRun> = fc
  .record({
    ending,
    data,
    training,
    logging,
    evaluation,
    saving,
    dropout: fc.constantFrom(0, 0.1),
    patience: fc.constantFrom(undefined, 1, 2),
  })
  .map(({ ending, data, training, logging, evaluation, saving, dropout, patience }) => {
    const args: TrainingArgumentsInput & { save_steps: number } = {
      ...ending,
      ...data,
      ...training,
      ...logging,
      ...evaluation,
      ...saving,
    };
    const evaluates = args.eval_strategy !== "no";
    if (!evaluates) {
      if (args.save_strategy === "best") args.save_strategy = "steps";
      if (args.lr_scheduler_type === "reduce_lr_on_plateau") args.lr_scheduler_type = "linear";
      args.load_best_model_at_end = false;
    }
    if (args.load_best_model_at_end && args.save_strategy !== "best") {
      args.save_strategy = args.eval_strategy;
      args.save_steps = evaluation.eval_steps * (args.save_steps > 2 ? 2 : 1);
    }
    const plateau = args.lr_scheduler_type === "reduce_lr_on_plateau";
    return {
      args: {
        use_cpu: true,
        bf16: false,
        seed: 42,
        ...args,
        max_length: args.packing ? 96 : 1024,
        ...(plateau ? { warmup_steps: 0, lr_scheduler_kwargs: { patience: 0, factor: 0.5 } } : {}),
        ...(args.optim === "paged_adamw_8bit" ? { optim_args: "page_budget=1MiB" } : {}),
      },
      more: {
        model: fixturePath("tiny-llama"),
        dataset: fixturePath("data/prompt-completion.jsonl"),
        eval_dataset: fixturePath("data/alpaca.jsonl"),
        lora: { r: 4, lora_alpha: 8, lora_dropout: dropout, target_modules: "all-linear" },
        ...(evaluates && patience !== undefined ? { early_stopping: { patience } } : {}),
      },
    };
  });
