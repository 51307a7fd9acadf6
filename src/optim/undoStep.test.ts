/** A step that finds too little memory, or is skipped, has changed nothing, and can be made again. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import {
  gradientSeed,
  makeOptimizer,
  makeParameters,
  type Shapes,
  scatter,
  updates,
} from "../../tests/support/optimizers.js";
import { elementCount } from "../support/shape.js";
import { flush, isOutOfMemory, liveTensors, loadNative, ops, scope } from "../torch/index.js";
import { OPTIMIZER_NAMES } from "./catalogue.js";
import type { Optimizer, TrainedParameter } from "./optimizer.js";
import { diskTier, hostTier } from "./pageTiers.js";
import { PagedStateMemory, PlainStateMemory, type StateMemory } from "./stateMemory.js";

const folder = mkdtempSync(join(tmpdir(), "slimtune-undo-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  loadNative().failAllocation(0);
  await flush();
  expect(liveTensors()).toBe(0);
});

const BUDGET = 2 ** 20;
const memories: Record<string, () => StateMemory> = {
  plain: () => new PlainStateMemory("cpu"),
  "in pages on disk": () => new PagedStateMemory(diskTier(folder), BUDGET),
  "in pages beside a device": () => new PagedStateMemory(hostTier("cpu"), BUDGET),
};
const cases = OPTIMIZER_NAMES.flatMap((optim) =>
  Object.keys(memories)
    .filter((memory) => memory === "plain" || optim.startsWith("paged_"))
    .map((memory): [string, string] => [optim, memory]),
);
const more: Record<string, string> = { sgd: "momentum=0.9,dampening=0.5", ademamix: "t_alpha=3,t_beta3=3" };
const SHAPES: Shapes = {
  "layers.0.weight": [300, 1000],
  "norm.weight": [40],
  "layers.1.weight": [70, 90],
  "layers.2.weight": [250_000],
};
const STEPS = 3;

async function bytesOf(optimizer: Optimizer, parameters: readonly TrainedParameter[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for (const { tensor } of parameters) parts.push(await tensor.bytes());
  for (const { data } of optimizer.stateEntries()) parts.push(await data());
  return Buffer.concat(parts);
}

const outcome = async (enqueue: () => void): Promise<unknown> => {
  try {
    enqueue();
    await flush();
  } catch (error) {
    await flush();
    return error;
  }
};

describe.each(cases)("%s, %s", (optim, memory) => {
  const make = () => {
    const parameters = makeParameters(SHAPES);
    const optimizer = makeOptimizer(parameters, { optim, optim_args: more[optim] }, memories[memory]!());
    const dispose = () => {
      optimizer.dispose();
      for (const { tensor } of parameters) tensor.dispose();
    };
    return { parameters, optimizer, dispose };
  };

  it("leaves no trace when it fails, wherever that is, and can be made again", async () => {
    const whole = make();
    updates(whole.optimizer, whole.parameters, { to: STEPS });
    const expected = await bytesOf(whole.optimizer, whole.parameters);
    whole.dispose();

    const { parameters, optimizer, dispose } = make();
    updates(optimizer, parameters, { to: 1 });
    const before = await bytesOf(optimizer, parameters);
    const gradients = parameters.map(({ shape }, i) =>
      ops.float32(scatter(elementCount(shape), gradientSeed(2, i)), [...shape]),
    );
    const step = () => optimizer.step(gradients, 1e-2 / 2, 1);

    loadNative().failAllocation(1);
    const skipped = await outcome(() => {
      scope(() => void ops.zeros([4]));
      step();
    });
    expect(isOutOfMemory(skipped)).toBe(true);
    optimizer.undoStep();
    expect(before.equals(await bytesOf(optimizer, parameters))).toBe(true);

    for (let failures = 0; ; failures++) {
      loadNative().failAllocation(failures + 1);
      const error = await outcome(step);
      loadNative().failAllocation(0);
      if (error === undefined) break;
      expect(isOutOfMemory(error), String(error)).toBe(true);
      optimizer.undoStep();
      expect(before.equals(await bytesOf(optimizer, parameters)), `after failure ${failures + 1}`).toBe(true);
    }
    updates(optimizer, parameters, { from: 3, to: STEPS });
    expect(expected.equals(await bytesOf(optimizer, parameters))).toBe(true);
    for (const gradient of gradients) gradient.dispose();
    dispose();
  });
});
