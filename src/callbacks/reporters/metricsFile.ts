/** Every log entry as a line of JSON, as soon as it is there. */

import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";
import type { TrainingArguments } from "../../arguments/index.js";
import type { ControlAnswer } from "../../runFolder/control.js";
import { METRICS } from "../../runFolder/files.js";
import type { LogEntry, TrainerState } from "../../runFolder/state.js";
import { textOf, writeSynced } from "../../support/durable.js";
import type { TrainerControl } from "../callbacks.js";
import type { Reporter } from "./reporter.js";

/**
 * `output_dir/metrics.jsonl`: the entries of log_history, each with `step`, `epoch` and `time` (seconds since 1970), and
 * lines `{step, control, time}` where someone steered the run.
 * A resumed run cuts the file back to what its checkpoint knows, so that no entry is there twice.
 */
export class MetricsFile implements Reporter {
  readonly name: string;
  #path: string;
  #file: FileHandle | undefined;

  constructor(outputDir: string) {
    this.#path = join(outputDir, METRICS);
    this.name = this.#path;
  }

  async onTrainBegin(args: TrainingArguments, state: TrainerState): Promise<void> {
    const written = (await textOf(this.#path)) ?? "";
    const kept = keptLines(written.split("\n"), state);
    const aside = join(args.output_dir, `.${METRICS}.partial`);
    await writeSynced(aside, kept.map((line) => `${line}\n`).join(""));
    await rename(aside, this.#path);
    this.#file = await open(this.#path, "a");
  }

  async onLog(
    _: TrainingArguments,
    state: TrainerState,
    __: TrainerControl,
    { logs }: { logs: Readonly<LogEntry> },
  ): Promise<void> {
    const entry = { step: state.global_step, ...logs, time: Date.now() / 1000 };
    await this.#file?.appendFile(`${JSON.stringify(entry)}\n`);
  }

  async onControl({ step, time, ...control }: ControlAnswer): Promise<void> {
    await this.#file?.appendFile(`${JSON.stringify({ step, control, time: Date.parse(time) / 1000 })}\n`);
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}

/** The lines of the entries that the checkpoint knows, and of what was asked of the run until then. */
function keptLines(written: readonly string[], { log_history, global_step }: TrainerState): string[] {
  if (global_step === 0 && log_history.length === 0) return []; // a new run
  const kept: string[] = [];
  let next = 0;
  for (const line of written) {
    if (isControl(line, global_step)) kept.push(line);
    else if (next < log_history.length && describes(line, log_history[next]!)) {
      kept.push(line);
      next++;
    }
  }
  return [...kept, ...log_history.slice(next).map((entry) => JSON.stringify(entry))];
}

function isControl(line: string, until: number): boolean {
  try {
    const { step, control } = JSON.parse(line);
    return typeof control === "object" && control !== null && step <= until;
  } catch {
    return false;
  }
}

/** Whether a line is that entry, which a checkpoint remembers without its time. */
function describes(line: string, entry: LogEntry): boolean {
  try {
    const { time: _, ...written } = JSON.parse(line);
    const keys = Object.keys(entry);
    return keys.length === Object.keys(written).length && keys.every((key) => written[key] === entry[key]);
  } catch {
    return false;
  }
}
