/** Whether a checkpoint fits the run that wants to continue it, and what changes. */
import type { TrainingArgumentsFields } from "../../arguments/index.js";
import { readCheckpointState } from "../../runFolder/checkpointState.js";
import { UserError } from "../../support/errors.js";
import type { Saved } from "../ledger.js";
import type { PreparedRun } from "../prepare.js";
import type { Settings } from "../settings.js";

/** Arguments that decide which examples an update sees: changing one would make it another run. */
const fixed: readonly (keyof TrainingArgumentsFields)[] = [
  "seed",
  "data_seed",
  "per_device_train_batch_size",
  "gradient_accumulation_steps",
  "train_sampling_strategy",
  "dataloader_drop_last",
  "optim",
];

/** Where and how a run is written or shown: no difference worth a word. */
const silent = new Set<string>(["resume_from_checkpoint", "output_dir", "disable_tqdm", "hub_token"]);

/**
 * Reads the state to continue from. Differences from the saved arguments are listed, and apply from here on.
 * @throws UserError when dataset, trained weights or a fixed argument differ
 */
export async function resumeState(
  folder: string,
  run: PreparedRun,
  { args, plan }: Settings,
  log: (line: string) => void,
): Promise<Saved> {
  const saved = await readCheckpointState(folder);
  const refuse = (reason: string) => new UserError(`resume_from_checkpoint: ${folder} cannot be continued: ${reason}`);
  if (saved.identity.parameters !== run.identity.parameters) {
    throw refuse(
      "its trained weights have other names, shapes, scaling or dropout. Use the model and lora settings it was made with.",
    );
  }
  if (saved.identity.base !== run.identity.base) {
    throw refuse(
      `it was made on another base model than ${run.modelName}, or with another quantization. Use the model and the quantization it was made with.`,
    );
  }
  if (saved.identity.dataset !== run.identity.dataset) {
    throw refuse(
      "the dataset gives other tokens than the one it was made with. Use the same data, tokenizer and data options.",
    );
  }
  const { evaluation } = run.identity;
  if (evaluation !== undefined && saved.identity.evaluation !== undefined && saved.identity.evaluation !== evaluation) {
    throw refuse(
      "eval_dataset gives other tokens than the one it was made with, so that its metrics cannot be compared. Use the same eval_dataset, or set eval_strategy to no.",
    );
  }
  const current = args.toJSON();
  for (const key of fixed) {
    if (JSON.stringify(saved.args[key]) !== JSON.stringify(current[key])) {
      throw refuse(
        `${key} was ${JSON.stringify(saved.args[key])} and is ${JSON.stringify(current[key])}. Set it back, or start a new run from the saved weights.`,
      );
    }
  }
  for (const key of Object.keys(current) as (keyof TrainingArgumentsFields)[]) {
    const [before, now] = [JSON.stringify(saved.args[key]), JSON.stringify(current[key])];
    if (before !== now && !silent.has(key)) log(`Resuming with ${key} ${now} (was ${before})`);
  }
  if (saved.device !== run.device) {
    log(
      `Resuming on ${run.device} (was ${saved.device}): from here on its numbers differ a little, and dropout's masks`,
    );
  }
  log(`Resuming from ${folder}: update ${saved.state.global_step} of ${plan.maxSteps}`);
  return saved;
}
