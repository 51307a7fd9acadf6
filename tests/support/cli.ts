/** The command as a person starts it, in a process of its own. It runs the compiled code: `npm run build` first. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TrainingArgumentsInput } from "../../src/index.js";
import { fixturePath } from "./goldens.js";

export const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** Of a process that shares the machine with others. */
export const environment = () => ({ ...process.env, OMP_NUM_THREADS: "1" });

export interface Ended {
  /** null when a signal ended the process. */
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Both outputs together. */
  output: string;
}

export interface Running {
  process: ChildProcess;
  ended: Promise<Ended>;
  /** Settles when the output has this text; rejects when the process ends without it. */
  said(text: string): Promise<void>;
}

/** Writes a config for tiny-llama beside `output_dir`; gives its path. */
export function writeConfig(folder: string, args: TrainingArgumentsInput, dataset?: string): string {
  const path = join(folder, "config.json");
  const config = {
    model: fixturePath("tiny-llama"),
    dataset: dataset ?? fixturePath("data/prompt-completion.jsonl"),
    lora: { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: "all-linear" },
    training_args: {
      use_cpu: true,
      bf16: false,
      per_device_train_batch_size: 2,
      learning_rate: 1e-2,
      logging_steps: 1,
      seed: 42,
      ...args,
    },
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

export function runCli(words: string[]): Running {
  const child = spawn(process.execPath, [MAIN, ...words], {
    env: environment(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const listeners = new Set<() => void>();
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal, output }));
  });
  const said = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!output.includes(text)) return;
        listeners.delete(look);
        resolve();
      };
      listeners.add(look);
      look();
      ended.then(() => reject(new Error(`ended without "${text}": ${output}`)));
    });
  return { process: child, ended, said };
}
