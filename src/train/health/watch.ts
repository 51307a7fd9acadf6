/** A loss or gradient that is no number: caught before the optimizer uses it, written down, and dealt with. */
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { HEALTH_LOG } from "../../runFolder/files.js";
import type { Incident, Suspect } from "../../runFolder/state.js";
import { UserError } from "../../support/errors.js";
import type { HealthConfig } from "./config.js";

const writable = (value: number) => (Number.isFinite(value) ? value : String(value));

export class HealthWatch {
  readonly #config: HealthConfig;
  readonly #outputDir: string;
  readonly #log: (line: string) => void;
  readonly #onIncident: (incident: Incident) => void;
  #inARow = 0;

  constructor(
    config: HealthConfig,
    outputDir: string,
    log: (line: string) => void,
    onIncident: (incident: Incident) => void,
  ) {
    this.#config = config;
    this.#outputDir = outputDir;
    this.#log = log;
    this.#onIncident = onIncident;
  }

  /** A good update was made. */
  good(): void {
    this.#inARow = 0;
  }

  /**
   * Writes the incident to health.jsonl.
   * @param checkpoint to go back to; undefined: there is none
   * @returns what to do about it
   * @throws UserError when the policy is to stop, or nothing else is left
   */
  async bad(suspect: Suspect, checkpoint: string | undefined): Promise<"skip" | "rollback"> {
    const { non_finite: policy, max_in_a_row: most } = this.#config;
    this.#inARow++;
    const reasons = [
      policy !== "stop" && this.#inARow >= most && `That is ${this.#inARow} in a row (health.max_in_a_row).`,
      policy === "rollback" && checkpoint === undefined && "There is no checkpoint yet to roll back to.",
      policy === "skip" && suspect.found === "weights" && "An update that was made cannot be left out any more.",
    ].filter((reason) => reason !== false);
    const action = reasons.length > 0 ? "stop" : policy;
    await this.#record(suspect, action);
    const { step, loss, gradNorm, learningRate } = suspect;
    const numbers = `the loss is ${loss}, the gradient norm ${gradNorm}, at learning rate ${learningRate} (${describe(suspect)})`;
    if (action !== "stop") {
      this.#log(`${action === "skip" ? "Skipped" : "Rolling back at"} update ${step}: ${numbers}`);
      return action;
    }
    const why = reasons.map((reason) => ` ${reason}`).join("");
    const file = join(this.#outputDir, HEALTH_LOG);
    const saved = checkpoint === undefined ? "Nothing was saved" : `${checkpoint} is good`;
    throw new UserError(
      suspect.found === "weights"
        ? `Training stopped at update ${step}, whose step made weights or optimizer states that are NaN or infinite, though ${numbers}.${why} ${saved}, and nothing is written of the broken ones. Lower learning_rate, and look at weight_decay, adam_epsilon (0 divides by zero) and max_grad_norm; then ${checkpoint === undefined ? "start again" : "resume from the checkpoint"}.`
        : `Training stopped before update ${step}: ${numbers}.${why} Nothing of it reached the weights${checkpoint === undefined ? "" : `, and ${saved}`}. Look at the examples listed in ${file}; when they are in order, ${checkpoint === undefined ? "start again" : "resume from the checkpoint"} with a lower learning_rate, more warmup_steps or a lower max_grad_norm. health.non_finite: skip leaves such updates out.`,
      { code: "not_finite" },
    );
  }

  async #record(suspect: Suspect, action: Incident["action"]): Promise<void> {
    const { step, epoch, loss, gradNorm, learningRate, found, examples, sources } = suspect;
    const incident: Incident = {
      time: new Date().toISOString(),
      step,
      epoch,
      loss: writable(loss),
      grad_norm: writable(gradNorm),
      learning_rate: learningRate,
      found,
      examples,
      sources,
      action,
      in_a_row: this.#inARow,
    };
    const file = join(this.#outputDir, HEALTH_LOG);
    await appendFile(file, `${JSON.stringify(incident)}\n`).catch((error: Error) => {
      this.#log(`${file} cannot be written: ${error.message}`);
    });
    this.#onIncident(incident);
  }
}

function describe({ examples, sources }: Suspect): string {
  const shown = sources.length > 0 ? sources : examples.map((example) => `example ${example}`);
  return shown.slice(0, 8).join(", ") + (shown.length > 8 ? `, and ${shown.length - 8} more` : "");
}
