/**
 * AdamW (https://arxiv.org/abs/1711.05101) as torch.optim.AdamW computes it, in one fused op over many parameters:
 *   p ← p - lr·λ·p;  m ← β1·m + (1-β1)·g;  v ← β2·v + (1-β2)·g²
 *   p ← p - lr · (m / (1-β1ᵗ)) / (√(v / (1-β2ᵗ)) + ε)
 */
import type { TensorEntry } from "../models/safetensorsWriter.js";
import { keep, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import type { Optimizer, TrainedParameter } from "./optimizer.js";
import { decays } from "./parameterGroups.js";
import type { StateMemory, StatePage } from "./stateMemory.js";

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

interface State {
  name: string;
  shape: readonly number[];
  tensor: Tensor;
  page: StatePage;
}

const count = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

export class AdamW implements Optimizer {
  readonly #config: AdamWConfig;
  readonly #memory: StateMemory;
  readonly #pages: { page: StatePage; slots: Slot[] }[];

  constructor(parameters: readonly TrainedParameter[], config: AdamWConfig, memory: StateMemory) {
    this.#config = config;
    this.#memory = memory;
    const pages = memory.pages(parameters.map(({ shape }) => 2 * 4 * count(shape)));
    this.#pages = pages.map((page) => ({
      page,
      slots: page.members.map((index) => ({
        parameter: parameters[index]!,
        index,
        step: keep(ops.zeros([], "float32", memory.device)),
        expAvg: keep(page.zeros(parameters[index]!.shape)),
        expAvgSq: keep(page.zeros(parameters[index]!.shape)),
      })),
    }));
  }

  step(gradients: Tensor[], learningRate: number): void {
    const { weightDecay, ...config } = this.#config;
    noGrad(() => {
      for (const { page, slots } of this.#pages) {
        page.enter();
        this.#update(
          slots.filter(({ parameter }) => decays(parameter.name)),
          gradients,
          { ...config, lr: learningRate, weightDecay },
        );
        this.#update(
          slots.filter(({ parameter }) => !decays(parameter.name)),
          gradients,
          { ...config, lr: learningRate, weightDecay: 0 },
        );
        page.leave();
      }
    });
  }

  #update(slots: readonly Slot[], gradients: Tensor[], options: ops.AdamWOptions): void {
    if (slots.length === 0) return;
    const steps = slots.map(({ step }) => step);
    ops.foreachAddScalar_(steps, 1);
    ops.fusedAdamW_(
      slots.map(({ parameter }) => parameter.tensor),
      slots.map(({ index }) => gradients[index]!),
      slots.map(({ expAvg }) => expAvg),
      slots.map(({ expAvgSq }) => expAvgSq),
      steps,
      options,
    );
  }

  stateEntries(): TensorEntry[] {
    return [...this.#states()].map(({ name, shape, tensor, page }) => ({
      name,
      dtype: "F32",
      shape,
      data: async () => {
        const bytes = await tensor.bytes();
        page.leave();
        return bytes;
      },
    }));
  }

  loadState(read: (name: string, shape: readonly number[]) => Tensor): void {
    noGrad(() => {
      for (const { name, shape, tensor, page } of this.#states()) {
        scope(() => ops.copy_(tensor, read(name, shape)));
        page.leave();
      }
    });
  }

  describe(): string | undefined {
    return this.#memory.describe();
  }

  stats() {
    return this.#memory.stats();
  }

  dispose(): void {
    for (const { tensor } of this.#states()) tensor.dispose();
    this.#memory.dispose();
  }

  *#states(): Generator<State> {
    for (const { page, slots } of this.#pages) {
      for (const { parameter, step, expAvg, expAvgSq } of slots) {
        yield { name: `${parameter.name}.step`, shape: [], tensor: step, page };
        yield { name: `${parameter.name}.exp_avg`, shape: parameter.shape, tensor: expAvg, page };
        yield { name: `${parameter.name}.exp_avg_sq`, shape: parameter.shape, tensor: expAvgSq, page };
      }
    }
  }
}
