/** Whether an adapter learns at all: found at the first backward pass, not after an hour. */

import type { Sequence } from "../../models/batch.js";
import type { TrainedParameter } from "../../optim/optimizer.js";
import { UserError } from "../../support/errors.js";
import { flush, gradOf, noGrad, ops, scope } from "../../torch/index.js";

const B = /^(?:base_model\.model\.)?(.*)\.lora_B\.weight$/;

/** Checks once, at the first update that can tell, that every adapted layer gets a gradient. */
export class AdapterCheck {
  readonly #parameters: readonly TrainedParameter[];
  #done = false;

  constructor(parameters: readonly TrainedParameter[]) {
    this.#parameters = parameters;
  }

  /** To be called after the backward passes of an update. @throws UserError naming the layers that got no gradient */
  async check(window: readonly (readonly Sequence[])[]): Promise<void> {
    if (this.#done || !tells(window.flat())) return;
    await checkAdapterGradients(this.#parameters);
    this.#done = true;
  }
}

/**
 * Whether the gradients of these rows can tell: with nothing but first tokens to look at, attention has no choice, and
 * its queries and keys rightly get a gradient of zero.
 */
function tells(rows: readonly Sequence[]): boolean {
  return rows.some(({ inputIds, labels, lengths = [inputIds.length] }) => {
    let start = 0;
    return lengths.some((length) => {
      const learned = labels.subarray(start + 2, start + length).some((label) => label !== -100);
      start += length;
      return learned;
    });
  });
}

/**
 * To be called after a backward pass. B is what tells: while it is still zero, A rightly has a gradient of zero.
 * @throws UserError naming the layers whose adapter got no gradient
 */
async function checkAdapterGradients(parameters: readonly TrainedParameter[]): Promise<void> {
  const adapters = parameters.flatMap(({ name, tensor }) => {
    const path = B.exec(name)?.[1];
    return path === undefined ? [] : [{ path, tensor }];
  });
  if (adapters.length === 0) return;
  await flush(); // so that describing a tensor does not hold up the event loop
  const reached = adapters.filter(({ tensor }) => tensor.info.hasGrad);
  const silent = adapters.filter((adapter) => !reached.includes(adapter)).map(({ path }) => path);
  if (reached.length > 0) {
    const norms = noGrad(() => scope(() => ops.stack(ops.foreachNorm(reached.map(({ tensor }) => gradOf(tensor))))));
    const values = await norms.values();
    norms.dispose();
    for (const [i, { path }] of reached.entries()) if (Number(values[i]) === 0) silent.push(path);
  }
  if (silent.length === 0) return;
  const shown = silent.slice(0, 6).join(", ") + (silent.length > 6 ? `, and ${silent.length - 6} more` : "");
  throw new UserError(
    `lora: ${silent.length} of ${adapters.length} adapted layers get no gradient, so they would never learn: ${shown}. Weights around them may be zero: check the model's files, or leave these layers out with lora.target_modules or lora.exclude_modules.`,
  );
}
