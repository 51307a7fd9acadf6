/** The figures of status.json, as they come. */
import type { TrainingArguments } from "../arguments/index.js";
import type { TrainerState } from "../runFolder/state.js";
import type { StatusWriter } from "../runFolder/status.js";
import type { CallbackContext, TrainerCallback, TrainerControl } from "./callbacks.js";

const figure = (value: number | undefined) => (value !== undefined && Number.isFinite(value) ? value : null);

export class StatusCallback implements TrainerCallback {
  readonly #status: StatusWriter;
  #startedAt = 0;
  #firstStep = 0;

  constructor(status: StatusWriter) {
    this.#status = status;
  }

  onTrainBegin(_: TrainingArguments, state: TrainerState, __: TrainerControl, context: CallbackContext): void {
    this.#startedAt = performance.now();
    this.#firstStep = state.global_step;
    this.#status.update({ phase: "training" });
    this.#tell(state, context);
  }

  onStepEnd(_: TrainingArguments, state: TrainerState, __: TrainerControl, context: CallbackContext): void {
    this.#tell(state, context);
  }

  onSave(_: TrainingArguments, __: TrainerState, ___: TrainerControl, { checkpoint }: { checkpoint: string }): void {
    this.#status.update({ checkpoint });
  }

  #tell(state: TrainerState, { loss, learningRate, tokensPerSecond, peakDeviceMemory }: CallbackContext): void {
    const made = state.global_step - this.#firstStep;
    const seconds = (performance.now() - this.#startedAt) / 1000;
    this.#status.update({
      step: state.global_step,
      max_steps: state.max_steps,
      epoch: state.epoch,
      loss: figure(loss),
      learning_rate: figure(learningRate),
      tokens_per_second: figure(tokensPerSecond),
      seconds_left: made > 0 ? (seconds / made) * (state.max_steps - state.global_step) : null,
      memory: { resident: 0, device: peakDeviceMemory },
    });
  }
}
