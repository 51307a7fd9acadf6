/** `report_to: tensorboard`: event files that TensorBoard reads. */

import { type FileHandle, mkdir, open, readdir, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { TrainingArguments } from "../../arguments/index.js";
import { TENSORBOARD } from "../../runFolder/files.js";
import type { LogEntry, TrainerState } from "../../runFolder/state.js";
import { expandHome } from "../../support/home.js";
import type { TrainerControl } from "../callbacks.js";
import { restartEvent, scalarEvent, textEvent, versionEvent } from "./eventFile.js";
import type { Reporter } from "./reporter.js";

const seconds = () => Date.now() / 1000;

export class TensorBoardReporter implements Reporter {
  readonly name = "report_to tensorboard";
  readonly #environment: NodeJS.ProcessEnv;
  #file: FileHandle | undefined;

  constructor(environment: NodeJS.ProcessEnv = process.env) {
    this.#environment = environment;
  }

  async onTrainBegin(args: TrainingArguments, state: TrainerState): Promise<void> {
    const folder = await this.#folder(args.output_dir, state.global_step > 0);
    await mkdir(folder, { recursive: true });
    const name = `events.out.tfevents.${Math.floor(seconds())}.${hostname()}.${process.pid}.${state.global_step}`;
    this.#file = await open(join(folder, name), "a");
    const first = [versionEvent(seconds())];
    if (state.global_step > 0) first.push(restartEvent(seconds(), state.global_step + 1));
    else first.push(textEvent(seconds(), "args", JSON.stringify(args.toJSON(), null, 2)));
    await this.#file.appendFile(Buffer.concat(first));
  }

  async onLog(
    _: TrainingArguments,
    state: TrainerState,
    __: TrainerControl,
    { logs }: { logs: Readonly<LogEntry> },
  ): Promise<void> {
    const time = seconds();
    const records = Object.entries(logs).map(([name, value]) =>
      scalarEvent(time, state.global_step, tagOf(name), value),
    );
    await this.#file?.appendFile(Buffer.concat(records));
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  /** A resumed run goes on in the folder of the run before, so that TensorBoard shows one curve. */
  async #folder(outputDir: string, resumed: boolean): Promise<string> {
    const named = this.#environment.TENSORBOARD_LOGGING_DIR;
    if (named) return expandHome(named);
    const runs = join(outputDir, TENSORBOARD);
    const earlier = resumed ? await newestFolder(runs) : undefined;
    return earlier ?? join(runs, runFolderName(new Date()));
  }
}

/** The Trainer's tags: eval_loss is eval/loss, anything else train/... */
export function tagOf(name: string): string {
  const [, group, rest] = /^(eval|test)_(.*)$/.exec(name) ?? [];
  return group ? `${group}/${rest}` : `train/${name}`;
}

/** As the Trainer names it: Jul04_09-05-00_host. */
export function runFolderName(now: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const month = now.toLocaleString("en-US", { month: "short" });
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("-");
  return `${month}${two(now.getDate())}_${time}_${hostname()}`;
}

async function newestFolder(parent: string): Promise<string | undefined> {
  const names = await readdir(parent).catch(() => []);
  const folders = await Promise.all(
    names.map(async (name) => ({ path: join(parent, name), stat: await stat(join(parent, name)) })),
  );
  return folders.filter(({ stat }) => stat.isDirectory()).sort((a, b) => b.stat.mtimeMs - a.stat.mtimeMs)[0]?.path;
}
