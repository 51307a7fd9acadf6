/** What is wrong with examples as a whole, before the first update is made from them. */
import type { Row } from "../../data/row.js";
import type { Example, TokenizeReport } from "../../data/tokenize.js";
import { UserError } from "../../support/errors.js";
import type { HealthConfig } from "./config.js";

export interface CheckedExamples {
  rows: readonly Row[];
  examples: readonly Example[];
  report: TokenizeReport;
  /** Tokens that end an answer when the model generates. */
  stops: ReadonlySet<number>;
  /** A stop token as it is written, for messages. */
  stopText: string | undefined;
}

/**
 * @returns notes for a person, where `health` asks for warnings
 * @throws UserError for examples that would teach the model something else than is meant
 */
export function checkExamples(checked: CheckedExamples, health: HealthConfig): string[] {
  const problems = [missingEndToken(checked, health), promptMismatch(checked, health)];
  return problems.filter((problem) => problem !== undefined);
}

/** Plain texts are no answers: nothing need end them. */
function missingEndToken({ rows, examples, report, stops, stopText }: CheckedExamples, health: HealthConfig) {
  if (stops.size === 0 || rows.every(({ format }) => format === "text")) return undefined;
  if (examples.some(({ labels }) => labels.some((label) => stops.has(label)))) return undefined;
  const what = `no example teaches the model to stop: the token that ends an answer${stopText ? ` (${stopText})` : ""} is in no label, so it would write on until max_new_tokens.`;
  const cut = report.truncated + report.cutToPositions;
  const why =
    cut === report.rows
      ? "Every row was cut, and with its end that token: raise max_length, or shorten the examples."
      : "The chat template ends a turn with another token, or leaves it outside of what is learned: set training_args.eos_token to the token that ends a turn, or correct eos_token and generation_config.json of the model.";
  if (health.missing_end_token === "warn") return `Note: ${what} ${why}`;
  throw new UserError(`dataset: ${what} ${why} To train all the same: health.missing_end_token: warn.`);
}

function promptMismatch({ report }: CheckedExamples, health: HealthConfig) {
  if (report.promptRewritten === 0) return undefined;
  const what = `in ${report.promptRewritten} of ${report.rows} rows the chat template writes the prompt otherwise on its own (with the beginning of an answer) than within the conversation, so the mask of completion_only_loss covers the wrong tokens.`;
  if (health.prompt_mismatch === "warn") return `Note: ${what}`;
  throw new UserError(
    `dataset: ${what} Put what the template adds into the completion, use messages with assistant_only_loss: true, or set completion_only_loss: false. To train as it is, like TRL: health.prompt_mismatch: warn.`,
  );
}
