/**
 * AdamW (https://arxiv.org/abs/1711.05101) as torch.optim.AdamW computes it, over all parameters in one fused op:
 *   p ← p - lr·λ·p;  m ← β1·m + (1-β1)·g;  v ← β2·v + (1-β2)·g²
 *   p ← p - lr · (m / (1-β1ᵗ)) / (√(v / (1-β2ᵗ)) + ε)
 */
import type { TensorEntry } from "../models/safetensorsWriter.js";
import { keep, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import type { Optimizer, TrainedParameter } from "./optimizer.js";
import { decays } from "./parameterGroups.js";

export interface AdamWConfig {
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
}

interface Slot {
  parameter: TrainedParameter;
  index: number; // among the gradients
  step: Tensor; // [], float32
  expAvg: Tensor;
  expAvgSq: Tensor;
}

export class AdamW implements Optimizer {
  readonly #config: AdamWConfig;
  readonly #groups: { weightDecay: number; slots: Slot[] }[];

  constructor(parameters: readonly TrainedParameter[], config: AdamWConfig) {
    this.#config = config;
    const slots = parameters.map(
      (parameter, index): Slot => ({
        parameter,
        index,
        step: keep(ops.zeros([])),
        expAvg: keep(ops.zeros([...parameter.shape])),
        expAvgSq: keep(ops.zeros([...parameter.shape])),
      }),
    );
    this.#groups = [
      { weightDecay: config.weightDecay, slots: slots.filter(({ parameter }) => decays(parameter.name)) },
      { weightDecay: 0, slots: slots.filter(({ parameter }) => !decays(parameter.name)) },
    ].filter((group) => group.slots.length > 0);
  }

  step(gradients: Tensor[], learningRate: number): void {
    noGrad(() => {
      for (const { weightDecay, slots } of this.#groups) {
        const steps = slots.map((slot) => slot.step);
        ops.foreachAddScalar_(steps, 1);
        ops.fusedAdamW_(
          slots.map((slot) => slot.parameter.tensor),
          slots.map((slot) => gradients[slot.index]!),
          slots.map((slot) => slot.expAvg),
          slots.map((slot) => slot.expAvgSq),
          steps,
          {
            lr: learningRate,
            weightDecay,
            beta1: this.#config.beta1,
            beta2: this.#config.beta2,
            eps: this.#config.eps,
          },
        );
      }
    });
  }

  stateEntries(): TensorEntry[] {
    return [...this.#states()].map(({ name, shape, tensor }) => ({
      name,
      dtype: "F32",
      shape,
      data: () => tensor.bytes(),
    }));
  }

  loadState(read: (name: string, shape: readonly number[]) => Tensor): void {
    noGrad(() => {
      for (const { name, shape, tensor } of this.#states()) scope(() => ops.copy_(tensor, read(name, shape)));
    });
  }

  dispose(): void {
    for (const { tensor } of this.#states()) tensor.dispose();
  }

  *#states(): Generator<{ name: string; shape: readonly number[]; tensor: Tensor }> {
    for (const { slots } of this.#groups) {
      for (const { parameter, step, expAvg, expAvgSq } of slots) {
        yield { name: `${parameter.name}.step`, shape: [], tensor: step };
        yield { name: `${parameter.name}.exp_avg`, shape: parameter.shape, tensor: expAvg };
        yield { name: `${parameter.name}.exp_avg_sq`, shape: parameter.shape, tensor: expAvgSq };
      }
    }
  }
}
