/** The key `health` of a config: what a run does about numbers and data that would spoil it. */

import { z } from "zod";
import type { TrainingArguments } from "../../arguments/index.js";
import { UserError } from "../../support/errors.js";
import { zodProblem } from "../../support/zodProblem.js";

/** The key `health` of a config. */
export const healthSchema = z.strictObject({
  non_finite: z
    .enum(["stop", "skip", "rollback"])
    .default("stop")
    .describe(
      "When a loss or gradient norm is NaN or infinite: stop the run; skip that update; or roll the weights back to the last checkpoint and go on behind the bad batch.",
    ),
  max_in_a_row: z
    .int()
    .min(1)
    .default(5)
    .describe("With skip and rollback: stop when this many updates in a row were not finite."),
  missing_end_token: z
    .enum(["stop", "warn"])
    .default("stop")
    .describe(
      "When the token that ends an answer is in no label of a prompt/completion or chat dataset, so that the model never learns to stop.",
    ),
  prompt_mismatch: z
    .enum(["stop", "warn"])
    .default("stop")
    .describe(
      "When the chat template renders a prompt that is not the beginning of the whole conversation, so that the loss mask falls on other tokens than the answer's.",
    ),
});

export type HealthConfig = z.output<typeof healthSchema>;

/** What a run does about numbers and data that would spoil it; docs/monitoring.md explains it. */
export interface HealthConfigInput {
  /** At a loss or gradient that is NaN or infinite: end the run, leave the update out, or also go back to the last checkpoint. Default: stop. */
  non_finite?: "stop" | "skip" | "rollback";
  /** End the run all the same after so many of them in a row. Default: 5. */
  max_in_a_row?: number;
  /** When no answer's label holds the token that ends it, so that the model would never stop. Default: stop. */
  missing_end_token?: "stop" | "warn";
  /** When the chat template writes a prompt otherwise on its own than within the conversation. Default: stop. */
  prompt_mismatch?: "stop" | "warn";
}

/** @throws UserError for unknown keys or values, and for a rollback without checkpoints */
export function healthConfig(input: HealthConfigInput | undefined, args: TrainingArguments): HealthConfig {
  const parsed = healthSchema.safeParse(input ?? {});
  if (!parsed.success) throw new UserError(zodProblem(parsed.error, "health"));
  if (parsed.data.non_finite === "rollback") {
    const problem =
      args.save_strategy === "no" ? "save_strategy is no" : args.save_only_model && "save_only_model is on";
    if (problem) {
      throw new UserError(
        `health.non_finite: rollback needs checkpoints to go back to, but ${problem}. Use save_strategy: steps with a save_steps that you can afford to lose, or health.non_finite: skip.`,
      );
    }
  }
  return parsed.data;
}
