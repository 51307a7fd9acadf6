/** The JSON of a checkpoint: where the run stood. */

import { basename, join } from "node:path";
import { z } from "zod";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { zodProblem } from "../support/zodProblem.js";
import { ARGUMENTS, checkpointStep, RESUME, TRAINER_STATE } from "./files.js";
import {
  identitySchema,
  type RunIdentity,
  type Tally,
  type TrainerState,
  tallySchema,
  trainerStateSchema,
} from "./state.js";

/** A checkpoint that cannot be continued: another one may do. */
export class DamagedCheckpoint extends UserError {}

const resumeFileSchema = z.object({
  identity: identitySchema,
  device: z.string().describe("Where it computed."),
  tally: tallySchema,
});

export interface CheckpointState {
  /** The training arguments at that moment. */
  args: Record<string, unknown>;
  state: TrainerState;
  tally: Tally;
  identity: RunIdentity;
  device: string;
}

/** @throws DamagedCheckpoint for files that are not what a run writes, sealed or not */
export async function readCheckpointState(folder: string): Promise<CheckpointState> {
  const args = await readJson(join(folder, ARGUMENTS), z.record(z.string(), z.unknown()));
  const state = await readJson(join(folder, TRAINER_STATE), trainerStateSchema);
  if (state.global_step !== checkpointStep(basename(folder))) {
    throw damaged(join(folder, TRAINER_STATE), `global_step is ${state.global_step}, unlike the folder's name`);
  }
  return { args, state, ...(await readJson(join(folder, RESUME), resumeFileSchema)) };
}

async function readJson<T extends z.ZodType>(path: string, schema: T): Promise<z.output<T>> {
  let value: unknown;
  try {
    value = JSON.parse((await readRegularFile(path, FILE_LIMITS.state)).toString());
  } catch (error) {
    throw damaged(path, (error as Error).message);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw damaged(path, zodProblem(parsed.error));
}

const damaged = (path: string, problem: string) => new DamagedCheckpoint(`${path} cannot be used: ${problem}`);
