/** What makes one optimizer differ from another: the states it keeps for a parameter, and its update. */
import { elementCount } from "../support/shape.js";
import { type DType, dtypeBytes, type Tensor } from "../torch/index.js";
import type { TrainedParameter } from "./optimizer.js";

export interface StateSpec {
  name: string;
  shape: readonly number[];
  dtype: Extract<DType, "float32" | "uint8">;
}

/** A parameter in an update; `states` in the order of their specs. */
export interface Slot {
  parameter: TrainedParameter;
  gradient: Tensor;
  states: Tensor[];
}

export interface UpdateOptions {
  /** This update, counted from 1. */
  step: number;
  lr: number;
  weightDecay: number;
  /** What every gradient is multiplied by first: clipping. */
  gradientScale: number;
  /** [] in float32: the update sets it to 1 where a weight or state that it made is not finite. */
  nonfinite: Tensor;
  /** That of the rule, where it has one. */
  workspace: Tensor | undefined;
}

export interface UpdateRule {
  states(parameter: TrainedParameter): StateSpec[];
  /** Memory for updates of these parameters or some of them. It is made once. */
  workspace?(parameters: readonly TrainedParameter[]): Tensor;
  /**
   * Updates the weights and the states of some parameters, enqueued. It makes no tensor: where memory runs out an update
   * has not begun, and can be made again.
   */
  update(slots: readonly Slot[], options: UpdateOptions): void;
}

export const float32State = (name: string, shape: readonly number[]): StateSpec => ({ name, shape, dtype: "float32" });

export const stateBytes = ({ shape, dtype }: StateSpec) => elementCount(shape) * dtypeBytes(dtype);
