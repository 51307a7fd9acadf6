/** What the measurements share: a tiny run from the compiled code, folders that go, options. `npm run build` first. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Trainer } from "../../dist/index.js";

export const fixture = (name) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

/** The values of `--name value`, as numbers or texts like their defaults. */
export function options(defaults) {
  const { values } = parseArgs({
    options: Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: "string" }])),
  });
  return Object.fromEntries(
    Object.entries(defaults).map(([name, fallback]) => {
      const given = values[name] ?? fallback;
      return [name, typeof fallback === "number" ? Number(given) : given];
    }),
  );
}

/** Calls `work` with a folder that is removed after it. */
export async function inFolder(work) {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-reliability-"));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function tinyTrainer(output_dir, args, more = {}) {
  return new Trainer({
    model: fixture("tiny-llama"),
    dataset: fixture("data/prompt-completion.jsonl"),
    eval_dataset: fixture("data/alpaca.jsonl"),
    lora: { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: "all-linear" },
    log: () => {},
    ...more,
    training_args: { output_dir, use_cpu: true, bf16: false, per_device_train_batch_size: 2, ...args },
  });
}

export const seconds = (since) => ((performance.now() - since) / 1000).toFixed(2);
export const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
