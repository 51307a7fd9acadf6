/** The bookkeeping of a run in its output_dir, from before it loads anything until it is over. */
import type { TrainingArguments } from "../arguments/index.js";
import type { Reporter } from "../callbacks/reporters/index.js";
import { explainMemory, trainingAdvice } from "../memory/outOfMemory.js";
import { RUN } from "../runFolder/files.js";
import { openOutputDir } from "../runFolder/outputDir.js";
import { RecordWriter } from "../runFolder/record.js";
import type { TrainOutput } from "../runFolder/state.js";
import { type Phase, StatusWriter } from "../runFolder/status.js";
import { ControlFile } from "./controlFile.js";
import type { Requests, SettingChange } from "./requests.js";
import { recordedConfig, runStart } from "./runStart.js";
import { UpdateFailure } from "./update.js";

export interface RunFolderOptions {
  config: Parameters<typeof recordedConfig>[0] & { overwrite_output_dir?: boolean };
  args: TrainingArguments;
  requests: Requests;
  reporters: readonly Reporter[];
  log: (line: string) => void;
}

export class RunFolder {
  readonly record: RecordWriter;
  readonly status: StatusWriter;
  readonly control: ControlFile;
  /** Checkpoints that were found damaged. */
  readonly damaged = new Set<string>();
  readonly #log: (line: string) => void;
  /** Everything was loaded and fits: the folder stays as the run leaves it. */
  begun = false;

  private constructor(record: RecordWriter, status: StatusWriter, control: ControlFile, log: (line: string) => void) {
    this.record = record;
    this.status = status;
    this.control = control;
    this.#log = log;
  }

  /**
   * Holds the folder while `work` goes on, and keeps its record and its status.
   * A start that never began leaves it as it found it; whoever still waits for an answer hears how it ended.
   */
  static async during(
    options: RunFolderOptions,
    work: (folder: RunFolder) => Promise<TrainOutput>,
  ): Promise<TrainOutput> {
    const { args, requests, config, log } = options;
    const path = args.output_dir;
    const resuming = Boolean(args.resume_from_checkpoint);
    const overwrite = config.overwrite_output_dir === true;
    if (overwrite && resuming) log("overwrite_output_dir is not used: the run is resumed.");
    const place = await openOutputDir(path, resuming ? "resume" : overwrite ? "move aside" : "refuse").catch(
      (error) => {
        requests.end(error);
        throw error;
      },
    );
    if (place.aside !== undefined) log(`The earlier run in ${path} was moved to ${place.aside}`);
    let record: RecordWriter | undefined;
    let status: StatusWriter | undefined;
    let control: ControlFile | undefined;
    let folder: RunFolder | undefined;
    const end = async (phase: Phase, error: unknown = undefined) => {
      requests.end(error);
      await control?.close();
      if (folder?.begun) return status?.end({ phase, error: error === undefined ? null : (error as Error).message });
      await status?.takeBack();
      await record?.takeBack();
    };
    try {
      record = await RecordWriter.start(path, recordedConfig(config, args), runStart(), resuming);
      status = await StatusWriter.open(path, record.record.id, log);
      control = await openControl(path, status, options);
      folder = new RunFolder(record, status, control, log);
      const output = await work(folder);
      await end(output.interrupted ? "interrupted" : "finished");
      return output;
    } catch (cause) {
      const memory = cause instanceof UpdateFailure && cause.kind === "memory" ? cause.cause : cause;
      const error = explainMemory(memory, trainingAdvice(args));
      await end("failed", error).catch(() => {}); // of the two errors, this is the one to tell
      throw error;
    } finally {
      if (folder?.begun) place.lock.release();
      else await place.giveBack();
    }
  }

  /** Changed settings are in run.json before an update is made with them, so that a resume makes them again. */
  async keepChanges(changes: readonly SettingChange[], step: number, id: string): Promise<void> {
    const time = new Date().toISOString();
    for (const { name, from, to } of changes) this.#log(`After update ${step}: ${name} ${to} (was ${from})`);
    await this.record.changed(changes.map((change) => ({ id, time, step, ...change }))).catch((error: Error) => {
      this.#log(`${RUN} cannot be written: ${error.message}. A resume will not know of the change.`);
    });
  }
}

function openControl(path: string, status: StatusWriter, { requests, reporters }: RunFolderOptions) {
  return ControlFile.open(
    path,
    requests,
    () => status.step,
    (answer) => {
      status.answer(answer);
      for (const reporter of reporters) void reporter.onControl?.(answer);
    },
  );
}
