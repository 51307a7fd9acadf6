/**
 * Rules that treat each element by itself, with states of the parameter's shape: in float32, or in 8 bits as bitsandbytes
 * keeps them, block-wise with its dynamic code (https://arxiv.org/abs/2110.02861). A small tensor and an embedding keep
 * float32 states there, as in the Trainer.
 */
import { elementCount } from "../support/shape.js";
import type { optimizerOps, Tensor } from "../torch/index.js";
import type { TrainedParameter } from "./optimizer.js";
import { float32State, type Slot, type StateSpec, type UpdateOptions, type UpdateRule } from "./updateRule.js";

export type Bits = 8 | 32;

/** Elements that share a scale. */
const BLOCK = 256;
/** Tensors with fewer elements keep float32 states. */
const SMALLEST_QUANTIZED = 4096;

type Step = (tensors: optimizerOps.ElementwiseTensors, options: UpdateOptions) => void;

/**
 * @param names of the states, in the native op's order
 * @param step the native op
 */
export function elementwise(names: readonly string[], bits: Bits, step: Step): UpdateRule {
  const quantized = ({ role, shape }: TrainedParameter) =>
    bits === 8 && elementCount(shape) >= SMALLEST_QUANTIZED && role !== "embedding" && role !== "position";
  return {
    states: (parameter) => names.flatMap((name) => (quantized(parameter) ? codes : plain)(name, parameter.shape)),
    update: (slots, options) => {
      const [small, large] = [false, true].map((wanted) =>
        slots.filter((slot) => quantized(slot.parameter) === wanted),
      );
      if (small!.length > 0) step(gather(small!, names.length, 1), options);
      if (large!.length > 0) step(gather(large!, names.length, 2), options);
    },
  };
}

const plain = (name: string, shape: readonly number[]): StateSpec[] => [float32State(name, shape)];

const codes = (name: string, shape: readonly number[]): StateSpec[] => [
  { name, shape, dtype: "uint8" },
  float32State(`${name}_absmax`, [Math.ceil(elementCount(shape) / BLOCK)]),
];

/** @param width tensors of each state: itself, and with 8 bits its scales */
function gather(slots: readonly Slot[], states: number, width: 1 | 2): optimizerOps.ElementwiseTensors {
  const column = (offset: number): Tensor[] =>
    Array.from({ length: states }, (_, state) => slots.map((slot) => slot.states[state * width + offset]!)).flat();
  return {
    parameters: slots.map(({ parameter }) => parameter.tensor),
    gradients: slots.map(({ gradient }) => gradient),
    states: column(0),
    scales: width === 2 ? column(1) : [],
  };
}
