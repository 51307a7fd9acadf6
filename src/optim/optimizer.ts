/** What the trainer asks of an optimizer. */
import type { TensorEntry } from "../files/safetensorsWriter.js";
import type { WeightRole } from "../support/weightRole.js";
import type { Tensor } from "../torch/index.js";

/** A weight that is trained; its tensor is a float32 leaf. */
export interface TrainedParameter {
  name: string;
  /** Its name in the files of a model, where they spell it in another way. */
  stored?: string;
  role: WeightRole;
  tensor: Tensor;
  shape: readonly number[];
  /** Its shape in the file, where that has more behind it in one dimension. */
  storedShape?: readonly number[];
  /** Times the learning rate; 1 where left out. */
  lrFactor?: number;
  /** Whether weight decay reaches it; its role says so where left out. */
  decays?: boolean;
}

export interface PagingStats {
  pages: number;
  resident: number;
  /** Bytes written out so far. */
  moved: number;
  /** Seconds spent waiting for pages. */
  waited: number;
}

export interface Optimizer {
  /** One update from the gradients times `gradientScale`, enqueued; the gradients may be overwritten. */
  step(gradients: Tensor[], learningRate: number, gradientScale: number): void;
  /**
   * Whether the last step made a weight or state that is not finite. Rejects with the first failure of the engine so far,
   * as a flush does.
   */
  madeNonFinite(): Promise<boolean>;
  /**
   * Takes the last step out of the count of updates, after the engine has told that it failed or was skipped. One that
   * found too little memory has changed nothing: it can be made again.
   */
  undoStep(): void;
  /** The state by parameter, as it is when each entry is read. */
  stateEntries(): TensorEntry[];
  /** Takes a state over; `read` gives a tensor of its own for a name and shape that stateEntries lists. */
  loadState(read: (name: string, shape: readonly number[]) => Tensor): Promise<void>;
  /** What a person should know before the run. */
  describe(): string | undefined;
  /** What paging has cost so far. */
  stats(): Promise<PagingStats | undefined>;
  dispose(): void;
}
