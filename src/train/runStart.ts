/** What run.json says of a start: the config, the command, the machine. */
import { arch, cpus, platform, totalmem } from "node:os";
import type { TrainingArguments } from "../arguments/index.js";
import { recordedDataset } from "../data/sources.js";
import { nativePaths, packageVersion } from "../nativeModule/paths.js";
import { readRecord } from "../nativeModule/record.js";
import type { RunRecord, RunStart } from "../runFolder/record.js";
import { thisProcess } from "../support/process.js";
import type { RunSpec } from "./prepare.js";

const MASK = "<SECRET>";

/** A secret may stand in an option of that name, or in an address (`https://user:password@host`). */
function masked(words: readonly string[]): string[] {
  const secret = /^--(?:training_args\.)?(?:hub[-_]token|push_to_hub[-_]token)/;
  return words.map((word, i) => {
    if (secret.test(word) && word.includes("=")) return `${word.slice(0, word.indexOf("=") + 1)}${MASK}`;
    if (i > 0 && secret.test(words[i - 1]!) && !words[i - 1]!.includes("=")) return MASK;
    return word.replace(/(\w+:\/\/)[^/\s@]+@/g, `$1${MASK}@`);
  });
}

export function runStart(): RunStart {
  const { pid, host } = thisProcess();
  const processors = cpus();
  const libtorch = readRecord(nativePaths());
  return {
    time: new Date().toISOString(),
    step: 0,
    pid,
    host,
    command: masked(process.argv),
    versions: {
      slimtune: packageVersion(),
      node: process.versions.node,
      ...(libtorch ? { libtorch: `${libtorch.version} (${libtorch.variant})` } : {}),
    },
    machine: {
      platform: platform(),
      arch: arch(),
      cpu: processors[0]?.model ?? "",
      cores: processors.length,
      memory: totalmem(),
    },
  };
}

/** The config of a run with every argument resolved and secrets masked. */
export function recordedConfig(
  spec: RunSpec & { early_stopping?: unknown },
  args: TrainingArguments,
): RunRecord["config"] {
  const { model, adapter, eval_split, max_samples, lora, quantization, health, device, early_stopping } = spec;
  const data = { dataset: recordedDataset(spec.dataset), eval_dataset: recordedDataset(spec.eval_dataset) };
  const rest = { eval_split, max_samples, lora, quantization, health, device, early_stopping };
  const config = { model, adapter, ...data, ...rest };
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  return { ...Object.fromEntries(given), training_args: { ...args.toJSON() } };
}
