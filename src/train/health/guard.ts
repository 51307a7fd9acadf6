/** The health of a run's updates: what stands between a backward pass and the optimizer. */

import type { Sequence } from "../../models/batch.js";
import type { Optimizer } from "../../optim/optimizer.js";
import { damage } from "../../runFolder/manifest.js";
import { UserError } from "../../support/errors.js";
import type { PreparedRun } from "../prepare.js";
import { restore } from "../saving/resumable.js";
import { dropGradients, type StepResult } from "../step.js";
import { checkAdapterGradients, tells } from "./adapterGradients.js";
import type { HealthWatch } from "./watch.js";

export class UpdateGuard {
  readonly #watch: HealthWatch;
  readonly #run: PreparedRun;
  readonly #optimizer: Optimizer;
  #adapterChecked = false;

  constructor(watch: HealthWatch, run: PreparedRun, optimizer: Optimizer) {
    this.#watch = watch;
    this.#run = run;
    this.#optimizer = optimizer;
  }

  /** After the backward passes of a window: once, at the first that can tell, whether the adapter learns at all. */
  async checkAdapter(window: readonly (readonly Sequence[])[]): Promise<void> {
    if (this.#adapterChecked || !tells(window.flat())) return;
    await checkAdapterGradients(this.#run.parameters);
    this.#adapterChecked = true;
  }

  /**
   * Whether the update may be made; if not, its gradients are dropped, and the weights are back at the checkpoint where
   * that is the policy.
   * @param place the update, counted from 1, and the rows that it is made from
   * @throws UserError when the policy is to stop
   */
  async admits(
    { loss, gradNorm }: StepResult,
    place: { step: number; epoch: number; learningRate: number; rows: Int32Array },
    checkpoint: string | undefined,
  ): Promise<boolean> {
    if (Number.isFinite(loss) && Number.isFinite(gradNorm)) {
      this.#watch.good();
      return true;
    }
    const { examples, parameters, lora } = this.#run;
    const { rows, ...where } = place;
    const sources = [...new Set([...rows].flatMap((row) => examples[row]!.sources ?? []))];
    const suspect = { ...where, loss, gradNorm, examples: [...rows], sources };
    const action = await this.#watch.bad(suspect, checkpoint !== undefined);
    dropGradients(parameters);
    if (action === "rollback") {
      const reason = await damage(checkpoint!);
      if (reason) throw new UserError(`health.non_finite: rollback: ${checkpoint} is damaged: ${reason}.`);
      await restore(checkpoint!, lora ? "adapter_model" : "model", parameters, this.#optimizer, this.#run.device);
    }
    return false;
  }
}
