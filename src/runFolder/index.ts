/**
 * The folder of a run as a contract: who imports this can follow and steer runs, and needs neither LibTorch nor the
 * trainer for it.
 */
export { type CheckpointFolder, listCheckpoints } from "./checkpoints.js";
export {
  type ControlAnswer,
  type ControlLine,
  SETTABLE,
  type Settable,
  type SettableValues,
  sendControl,
} from "./control.js";
export { listRuns, type RunView, readMetrics, readRun, readTrainerState } from "./read.js";
export type { Change, RunRecord, RunStart } from "./record.js";
export type { LogEntry, TrainerState } from "./state.js";
export type { Phase, Status } from "./status.js";
