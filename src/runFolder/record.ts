/** run.json: what a run is, from its first moment on and across resumes. */

import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { putBack, replaceFile, textOf } from "../support/durable.js";
import { UserError } from "../support/errors.js";
import { FILE_LIMITS, readRegularFile } from "../support/regularFile.js";
import { SETTABLE, type Settable } from "./control.js";
import { RUN } from "./files.js";

export const planSchema = z.object({
  examples: z.int(),
  batchesPerEpoch: z.int(),
  stepsPerEpoch: z.int(),
  maxSteps: z.int(),
  epochs: z.int(),
  effectiveBatch: z.int(),
});

/** One process that worked on the run. */
const startSchema = z.object({
  time: z.string().describe("ISO 8601"),
  step: z.int().describe("Finished updates of the checkpoint that it went on from; 0 for a new run."),
  pid: z.int(),
  host: z.string(),
  command: z.array(z.string()).describe("The command line, secrets masked."),
  versions: z.record(z.string(), z.string()),
  machine: z.object({
    platform: z.string(),
    arch: z.string(),
    cpu: z.string(),
    cores: z.int(),
    memory: z.number().describe("Bytes."),
  }),
});
export type RunStart = z.output<typeof startSchema>;

/** A setting that was changed while the run went on. */
const changeSchema = z.object({
  id: z.string().describe("Of the line in control.jsonl, or of the call that asked for it."),
  time: z.string(),
  step: z.int().describe("Finished updates at that moment: it applies from the next one on."),
  name: z.enum(SETTABLE),
  from: z.number().nullable(),
  to: z.number(),
});
export type Change = z.output<typeof changeSchema>;

export const runRecordSchema = z.object({
  format: z.literal(1),
  id: z.string(),
  started: z.string().describe("ISO 8601"),
  config: z
    .record(z.string(), z.unknown())
    .describe("Of the latest start: every argument as it was resolved, secrets masked."),
  plan: planSchema
    .nullable()
    .describe("Of the latest start, null until the data is read; what was set since is in `changes`."),
  starts: z.array(startSchema),
  changes: z.array(changeSchema).describe("What was set while it ran; a resume sets it again at the same updates."),
});
/** What run.json holds: what a run is, from its first moment on and across resumes. */
export type RunRecord = z.output<typeof runRecordSchema>;

/** The record of a folder's run; undefined where there is none that can be read. */
export async function readRecord(folder: string): Promise<RunRecord | undefined> {
  try {
    return runRecordSchema.parse(JSON.parse((await readRegularFile(join(folder, RUN), FILE_LIMITS.config)).toString()));
  } catch {
    return undefined;
  }
}

type Config = RunRecord["config"];

/** run.json as it is kept by the run itself. */
export class RecordWriter {
  readonly #path: string;
  readonly #before: string | undefined;
  readonly record: RunRecord;

  private constructor(path: string, before: string | undefined, record: RunRecord) {
    this.#path = path;
    this.#before = before;
    this.record = record;
  }

  /**
   * Notes a start, before anything is loaded. A resume goes on with the record that is there; an argument that its config
   * has changed since replaces what was set while the run went on.
   */
  static async start(folder: string, config: Config, start: RunStart, resuming: boolean): Promise<RecordWriter> {
    const before = resuming ? await readRecord(folder) : undefined;
    const made: RunRecord = {
      format: 1,
      id: randomUUID(),
      started: start.time,
      config,
      plan: null,
      starts: [],
      changes: [],
    };
    const record = before ? { ...before, config } : made;
    record.starts = [...record.starts, start];
    if (before)
      record.changes = before.changes.filter(({ name }) => setting(before.config, name) === setting(config, name));
    const path = join(folder, RUN);
    const writer = new RecordWriter(path, await textOf(path), record);
    await writer.#write().catch((error: Error) => {
      throw new UserError(`output_dir: ${folder} cannot be written: ${error.message}`, { cause: error });
    });
    return writer;
  }

  async planned(plan: RunRecord["plan"], step: number): Promise<void> {
    this.record.plan = plan;
    this.record.starts.at(-1)!.step = step;
    await this.#write();
  }

  /** Changes are on disk before they apply, so that a run that dies after them is resumed with them. */
  async changed(changes: readonly Change[]): Promise<void> {
    // A resume that came before an earlier change of the same setting has taken another way.
    const overruled = (old: Change) => changes.some(({ name, step }) => old.name === name && old.step > step);
    this.record.changes = [...this.record.changes.filter((old) => !overruled(old)), ...changes];
    await this.#write();
  }

  /** The run never began: the file is again what it was. */
  takeBack(): Promise<void> {
    return putBack(this.#path, this.#before);
  }

  async #write(): Promise<void> {
    await replaceFile(this.#path, `${JSON.stringify(this.record, null, 2)}\n`);
  }
}

function setting(config: Config, name: Settable): unknown {
  return (config.training_args as Record<string, unknown> | undefined)?.[name];
}
