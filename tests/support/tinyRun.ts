/** A run that takes a second: a model of some thousand weights on two dozen examples. */
import { type LoraConfig, Trainer, type TrainerConfig, type TrainingArgumentsInput } from "../../src/index.js";
import { fixturePath } from "./goldens.js";

export const TINY_LORA: LoraConfig = { r: 4, lora_alpha: 8, target_modules: "all-linear" };

/** 21 examples in batches of 2: 11 updates an epoch. */
export function tinyConfig(
  output_dir: string,
  args: TrainingArgumentsInput = {},
  more: Partial<TrainerConfig> = {},
): TrainerConfig {
  return {
    model: fixturePath("tiny-llama"),
    dataset: fixturePath("data/prompt-completion.jsonl"),
    lora: TINY_LORA,
    log: () => {},
    ...more,
    training_args: {
      output_dir,
      use_cpu: true,
      bf16: false,
      per_device_train_batch_size: 2,
      learning_rate: 1e-2,
      logging_steps: 1,
      save_strategy: "no",
      seed: 42,
      ...args,
    },
  };
}

export const tinyTrainer = (...options: Parameters<typeof tinyConfig>) => new Trainer(tinyConfig(...options));
