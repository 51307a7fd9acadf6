/** Everything that a run needs to go on as if it had never stopped, as safetensors and JSON. */

import { join } from "node:path";
import { readHeader, type SafetensorsDtype, type SafetensorsHeader } from "../../files/safetensors.js";
import { type TensorEntry, writeSafetensors } from "../../files/safetensorsWriter.js";
import { resolveWeights, type WeightsStem } from "../../files/weights.js";
import { StoredTensors } from "../../models/storedTensors.js";
import type { Optimizer, TrainedParameter } from "../../optim/optimizer.js";
import { type CheckpointState, DamagedCheckpoint } from "../../runFolder/checkpointState.js";
import { ARGUMENTS, OPTIMIZER, RESUME, RNG, TRAINER_STATE } from "../../runFolder/files.js";
import { stateJson } from "../../runFolder/state.js";
import { writeSynced } from "../../support/durable.js";
import { FILE_LIMITS, readRegularFile } from "../../support/regularFile.js";
import { elementCount } from "../../support/shape.js";
import { type Device, flush, noGrad, ops, rngStates, scope, setRngState, type Tensor } from "../../torch/index.js";

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

const FLOATS: readonly SafetensorsDtype[] = ["F64", "F32", "F16", "BF16"];

/** Writes what a checkpoint needs besides the weights. */
export async function writeResumable(
  folder: string,
  { args, state, tally, identity, device }: CheckpointState & { device: Device },
  optimizer: TensorEntry[],
): Promise<void> {
  await writeSynced(join(folder, TRAINER_STATE), stateJson(state));
  await writeSynced(join(folder, ARGUMENTS), json(args));
  await writeSynced(join(folder, RESUME), json({ identity, device, tally }));
  await writeSafetensors(join(folder, OPTIMIZER), optimizer);
  await writeSafetensors(
    join(folder, RNG),
    [...(await rngStates(device))].map(([name, state]) => ({
      name,
      dtype: "U8",
      shape: [state.length],
      data: async () => state,
    })),
  );
}

/** Puts the trained weights back. */
export async function restoreWeights(
  folder: string,
  stem: WeightsStem,
  parameters: readonly TrainedParameter[],
): Promise<void> {
  await withTensors((await resolveWeights(folder, stem)).headers, async (weights) =>
    noGrad(() => {
      for (const { name, stored = name, tensor, shape, storedShape = shape } of parameters) {
        scope(() => {
          const begins = (x: Tensor, size: number, dim: number) =>
            size === storedShape[dim] ? x : ops.narrow(x, dim, 0, size);
          ops.copy_(tensor, shape.reduce(begins, weights(stored, storedShape)));
        });
      }
    }),
  );
}

/**
 * Puts the trained weights, the optimizer's state and the generators' states back, where the run has their device.
 * @throws DamagedCheckpoint for files that do not hold them
 */
export async function restore(
  folder: string,
  stem: WeightsStem,
  parameters: readonly TrainedParameter[],
  optimizer: Optimizer,
  device: Device,
): Promise<void> {
  await restoreWeights(folder, stem, parameters);
  await withTensors([await readHeader(join(folder, OPTIMIZER))], (state) => optimizer.loadState(state));
  const rng = await readHeader(join(folder, RNG));
  const bytes = await readRegularFile(rng.path, FILE_LIMITS.config);
  try {
    for (const name of new Set<Device>(["cpu", device])) {
      const found = rng.tensors.get(name);
      if (found) setRngState(new Uint8Array(bytes.subarray(found.begin, found.end)), name);
    }
    await flush();
  } catch (error) {
    throw new DamagedCheckpoint(`${rng.path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Gives `use` a reader of the files' tensors by name and shape; the files are open that long.
 * @throws DamagedCheckpoint for a tensor that is not there, or holds what is no number
 */
async function withTensors(
  headers: readonly SafetensorsHeader[],
  use: (read: (name: string, shape: readonly number[]) => Tensor) => Promise<void>,
): Promise<void> {
  const stored = new StoredTensors(headers);
  try {
    await refuseNonFinite(stored);
    await use((name, shape) => {
      const found = stored.find(name);
      if (found && found.info.shape.join() === shape.join()) return stored.read(found);
      throw new DamagedCheckpoint(`${headers[0]!.path} has no tensor ${name} of the shape [${shape}]`);
    });
  } finally {
    stored.close();
  }
}

/** A run must not go on from NaN or infinity, however they came into the file. */
async function refuseNonFinite(stored: StoredTensors): Promise<void> {
  const found = [...stored.names()]
    .map((name) => ({ name, place: stored.find(name)! }))
    .filter(({ place }) => FLOATS.includes(place.info.dtype) && elementCount(place.info.shape) > 0);
  // x·0 is NaN where x is not finite, and 0 elsewhere
  const zeros = noGrad(() =>
    scope(() => ops.stack(found.map(({ place }) => scope(() => ops.sum(ops.mulScalar(stored.read(place), 0)))))),
  );
  const values = await zeros.values().finally(() => zeros.dispose());
  const bad = found.find((_, i) => Number(values[i]) !== 0);
  if (bad) throw new DamagedCheckpoint(`${bad.place.file}: ${bad.name} holds numbers that are NaN or infinite`);
}
