/** Every log entry as a line of JSON, as soon as it is there. */
import { type FileHandle, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { TrainingArguments } from "../../arguments/index.js";
import { writeSynced } from "../../runFolder/manifest.js";
import type { LogEntry, TrainerControl, TrainerState } from "../callbacks.js";
import type { Reporter } from "./reporter.js";

export const METRICS = "metrics.jsonl";

/**
 * `output_dir/metrics.jsonl`: the entries of log_history, each with `step`, `epoch` and `time` (seconds since 1970).
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
    const written = (await readFile(this.#path, "utf8").catch(() => "")).split("\n");
    const kept = state.log_history.map((entry, i) =>
      describes(written[i], entry) ? written[i] : JSON.stringify(entry),
    );
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

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}

/** Whether a line is that entry, which a checkpoint remembers without its time. */
function describes(line: string | undefined, entry: LogEntry): boolean {
  try {
    const { time: _, ...written } = JSON.parse(line ?? "");
    const keys = Object.keys(entry);
    return keys.length === Object.keys(written).length && keys.every((key) => written[key] === entry[key]);
  } catch {
    return false;
  }
}
