/** An optimizer made of a rule and of memory for its states. */
import type { TensorEntry } from "../files/safetensorsWriter.js";
import { keep, noGrad, ops, scope, type Tensor } from "../torch/index.js";
import type { Optimizer, TrainedParameter } from "./optimizer.js";
import { parameterGroups } from "./parameterGroups.js";
import type { StateMemory, StatePage } from "./stateMemory.js";
import type { StateSpec, UpdateRule } from "./updateRule.js";

interface Member {
  parameter: TrainedParameter;
  index: number; // among the gradients
  specs: StateSpec[];
  states: Tensor[];
}

const SAFETENSORS_DTYPE = { float32: "F32", uint8: "U8" } as const;

export class RuleOptimizer implements Optimizer {
  readonly #rule: UpdateRule;
  readonly #weightDecay: number;
  readonly #memory: StateMemory;
  readonly #pages: { page: StatePage; members: Member[] }[];
  readonly #workspace: Tensor | undefined;
  readonly #nonfinite: Tensor;
  #step = 0;

  /** @throws UserError when the memory has no room for the states */
  constructor(parameters: readonly TrainedParameter[], rule: UpdateRule, weightDecay: number, memory: StateMemory) {
    this.#rule = rule;
    this.#weightDecay = weightDecay;
    this.#memory = memory;
    const specs = parameters.map((parameter) => rule.states(parameter));
    this.#pages = memory.pages(specs).map((page) => ({
      page,
      members: page.members.map((index) => ({
        parameter: parameters[index]!,
        index,
        specs: specs[index]!,
        states: specs[index]!.map((spec) => keep(page.zeros(spec))),
      })),
    }));
    this.#workspace = rule.workspace && keep(rule.workspace(parameters));
    this.#nonfinite = keep(ops.zeros([], "float32", memory.device));
  }

  step(gradients: Tensor[], learningRate: number, gradientScale: number): void {
    this.#step++;
    const [workspace, nonfinite] = [this.#workspace, this.#nonfinite];
    const options = { step: this.#step, lr: learningRate, gradientScale, workspace, nonfinite };
    noGrad(() => {
      ops.zero_(nonfinite);
      for (const { page, members } of this.#pages) {
        page.enter();
        for (const { members: group, decayed, lrFactor } of parameterGroups(members, ({ parameter }) => parameter)) {
          const slots = group.map((member) => ({ ...member, gradient: gradients[member.index]! }));
          const weightDecay = decayed ? this.#weightDecay : 0;
          this.#rule.update(slots, { ...options, lr: learningRate * lrFactor, weightDecay });
        }
        page.leave();
      }
    });
  }

  async madeNonFinite(): Promise<boolean> {
    return (await this.#nonfinite.item()) !== 0;
  }

  undoStep(): void {
    this.#step--;
  }

  stateEntries(): TensorEntry[] {
    const step: TensorEntry = {
      name: "step",
      dtype: "F32",
      shape: [],
      data: async () => new Uint8Array(Float32Array.of(this.#step).buffer),
    };
    const states = [...this.#states()].map(({ name, spec, tensor, page }) => ({
      name,
      dtype: SAFETENSORS_DTYPE[spec.dtype],
      shape: spec.shape,
      data: () => {
        page.enter();
        const bytes = tensor.bytes();
        page.leave();
        return bytes;
      },
    }));
    return [step, ...states];
  }

  async loadState(read: (name: string, shape: readonly number[]) => Tensor): Promise<void> {
    const step = read("step", []);
    this.#step = await step.item();
    step.dispose();
    noGrad(() => {
      for (const { name, spec, tensor, page } of this.#states()) {
        page.enter();
        scope(() => ops.copy_(tensor, read(name, spec.shape)));
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
    this.#workspace?.dispose();
    this.#nonfinite.dispose();
    this.#memory.dispose();
  }

  *#states(): Generator<{ name: string; spec: StateSpec; tensor: Tensor; page: StatePage }> {
    for (const { page, members } of this.#pages) {
      for (const { parameter, specs, states } of members) {
        for (const [i, spec] of specs.entries()) {
          yield { name: `${parameter.name}.${spec.name}`, spec, tensor: states[i]!, page };
        }
      }
    }
  }
}
