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
   * @param canRollBack whether there is a checkpoint to go back to
   * @returns what to do instead of the update
   * @throws UserError when the policy is to stop, or nothing else is left
   */
  async bad(suspect: Suspect, canRollBack: boolean): Promise<"skip" | "rollback"> {
    const { non_finite: policy, max_in_a_row: most } = this.#config;
    this.#inARow++;
    const tooMany = policy !== "stop" && this.#inARow >= most;
    const nowhere = policy === "rollback" && !canRollBack;
    const action = tooMany || nowhere ? "stop" : policy;
    const incident: Incident = {
      time: new Date().toISOString(),
      step: suspect.step,
      epoch: suspect.epoch,
      loss: writable(suspect.loss),
      grad_norm: writable(suspect.gradNorm),
      learning_rate: suspect.learningRate,
      examples: suspect.examples,
      sources: suspect.sources,
      action,
      in_a_row: this.#inARow,
    };
    const file = join(this.#outputDir, HEALTH_LOG);
    await appendFile(file, `${JSON.stringify(incident)}\n`).catch((error: Error) => {
      this.#log(`${file} cannot be written: ${error.message}`);
    });
    this.#onIncident(incident);
    const what = `update ${suspect.step}: the loss is ${suspect.loss}, the gradient norm ${suspect.gradNorm}, at learning rate ${suspect.learningRate} (${describe(suspect)})`;
    if (action === "stop") {
      const why = nowhere
        ? " There is no checkpoint yet to roll back to."
        : tooMany
          ? ` That is ${this.#inARow} in a row (health.max_in_a_row).`
          : "";
      throw new UserError(
        `Training stopped before ${what}.${why} Nothing of it reached the weights, and the checkpoints are good. Look at the examples listed in ${file}; when they are in order, resume from a checkpoint with a lower learning_rate, more warmup_steps or a lower max_grad_norm. health.non_finite: skip leaves such updates out.`,
      );
    }
    this.#log(`${action === "skip" ? "Skipped" : "Rolling back at"} ${what}`);
    return action;
  }
}

function describe({ examples, sources }: Suspect): string {
  const shown = sources.length > 0 ? sources : examples.map((example) => `example ${example}`);
  return shown.slice(0, 8).join(", ") + (shown.length > 8 ? `, and ${shown.length - 8} more` : "");
}
