/** Everything that a run needs to go on as if it had never stopped, as safetensors and JSON. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { TrainingArgumentsFields } from "../../arguments/index.js";
import type { TrainerState } from "../../callbacks/callbacks.js";
import { readHeader, type SafetensorsHeader } from "../../files/safetensors.js";
import { type TensorEntry, writeSafetensors } from "../../files/safetensorsWriter.js";
import { resolveWeights, type WeightsStem } from "../../files/weights.js";
import { torchDtype } from "../../models/load.js";
import type { MetricScheduleState } from "../../optim/metricSchedules.js";
import type { Optimizer, TrainedParameter } from "../../optim/optimizer.js";
import { writeSynced } from "../../runFolder/manifest.js";
import { UserError } from "../../support/errors.js";
import { type Device, MappedFile, noGrad, ops, rngState, scope, setRngState, type Tensor } from "../../torch/index.js";
import type { LossScalerState } from "../lossScaler.js";
import type { RunIdentity } from "./identity.js";

export const TRAINER_STATE = "trainer_state.json";
const ARGUMENTS = "training_args.json";
const RUN = "slimtune_run.json";
export const OPTIMIZER = "optimizer.safetensors";
const RNG = "rng_state.safetensors";

/** Sums of the run so far that the files of the Trainer do not hold. */
export interface Progress {
  /** Σ of the losses of all updates, and of those since the last log. */
  lossSum: number;
  lossSinceLog: number;
  lastLoggedStep: number;
  tokens: number;
  /** Seconds of training before this process. */
  seconds: number;
  /** Updates that were left out because they were not finite, of the run and since the last log. */
  skipped: number;
  skippedSinceLog: number;
  /** Epochs whose end was told; an epoch's last update may be saved before. */
  epochsEnded: number;
  /** An evaluation was due at this update and is not made: the run was asked to stop during it. */
  evaluationPending: boolean;
  /** The last update's figures, for a log entry that is due after the checkpoint; null in JSON is NaN. */
  last?: { loss: number | null; gradNorm: number | null; learningRate: number | null };
  /** Of fp16. */
  lossScaler?: LossScalerState;
  /** Updates that the learning rate's schedule did not count, because they overflowed. */
  scheduleLag: number;
  /** Of a learning rate that follows a metric. */
  schedule?: MetricScheduleState;
  /** The default generator's state (base64) when it drew the epoch's order; where that order comes from it. */
  epochRandom?: string;
}

interface RunFile {
  identity: RunIdentity;
  /** Where it computed. */
  device: Device;
  progress: Progress;
}

export interface Resumable {
  args: TrainingArgumentsFields;
  state: TrainerState;
  identity: RunIdentity;
  device: Device;
  progress: Progress;
}

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

/** Keys in trainer_state.json are sorted, as the Trainer writes them. */
export function stateJson(state: TrainerState): string {
  return json(Object.fromEntries(Object.entries(state).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** Writes what a checkpoint needs besides the weights. */
export async function writeResumable(
  folder: string,
  { args, state, identity, device, progress }: Resumable,
  optimizer: TensorEntry[],
): Promise<void> {
  await writeSynced(join(folder, TRAINER_STATE), stateJson(state));
  await writeSynced(join(folder, ARGUMENTS), json(args));
  await writeSynced(join(folder, RUN), json({ identity, device, progress } satisfies RunFile));
  await writeSafetensors(join(folder, OPTIMIZER), optimizer);
  const devices: Device[] = device === "cpu" ? ["cpu"] : ["cpu", device];
  const random = await Promise.all(devices.map(async (name) => ({ name, state: await rngState(name) })));
  await writeSafetensors(
    join(folder, RNG),
    random.map(({ name, state }) => ({ name, dtype: "U8", shape: [state.length], data: async () => state })),
  );
}

/** Reads the JSON part; the manifest was checked before. */
export async function readResumable(folder: string): Promise<Resumable> {
  const read = async (name: string) => JSON.parse(await readFile(join(folder, name), "utf8"));
  const { identity, device = "cpu", progress } = (await read(RUN)) as RunFile;
  return { args: await read(ARGUMENTS), state: await read(TRAINER_STATE), identity, device, progress };
}

/** Puts the trained weights back. */
export async function restoreWeights(
  folder: string,
  stem: WeightsStem,
  parameters: readonly TrainedParameter[],
): Promise<void> {
  await withTensors((await resolveWeights(folder, stem)).headers, async (weights) =>
    noGrad(() => {
      for (const { name, tensor, shape } of parameters) scope(() => ops.copy_(tensor, weights(name, shape)));
    }),
  );
}

/** Puts the trained weights, the optimizer's state and the generators' states back, where the run has their device. */
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
  const bytes = await readFile(rng.path);
  for (const name of new Set<Device>(["cpu", device])) {
    const found = rng.tensors.get(name);
    if (found) setRngState(new Uint8Array(bytes.subarray(found.begin, found.end)), name);
  }
}

/** Gives `use` a reader of the files' tensors by name and shape; the files are open that long. */
async function withTensors(
  headers: readonly SafetensorsHeader[],
  use: (read: (name: string, shape: readonly number[]) => Tensor) => Promise<void>,
): Promise<void> {
  const files: { tensors: SafetensorsHeader["tensors"]; map: MappedFile }[] = [];
  try {
    for (const { path, tensors } of headers) files.push({ tensors, map: new MappedFile(path) });
    await use((name, shape) => {
      for (const { tensors, map } of files) {
        const info = tensors.get(name);
        if (info && info.shape.join() === shape.join())
          return map.tensor(info.begin, torchDtype(info.dtype), [...shape]);
      }
      throw new UserError(`resume_from_checkpoint: ${headers[0]!.path} has no tensor ${name} of the shape [${shape}]`);
    });
  } finally {
    for (const { map } of files) map.close();
  }
}
