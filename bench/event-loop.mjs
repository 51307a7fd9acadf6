// How long the event loop is held up while tiny-llama trains: the delay of a timer beyond its time, in milliseconds.
//   npm run build && node bench/event-loop.mjs [updates]
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { Trainer } from "../dist/index.js";

const fixture = (name) => fileURLToPath(new URL(`../tests/fixtures/${name}`, import.meta.url));
const updates = Number(process.argv[2] ?? 500);
const RESOLUTION_MS = 1;

for (const [name, lora] of [
  ["LoRA", { r: 16, lora_alpha: 32, target_modules: "all-linear" }],
  ["all weights", undefined],
]) {
  const output_dir = mkdtempSync(join(tmpdir(), "slimtune-event-loop-"));
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  await new Trainer({
    model: fixture("tiny-llama"),
    dataset: fixture("data/prompt-completion.jsonl"),
    lora,
    training_args: {
      output_dir,
      use_cpu: true,
      bf16: false,
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 8,
      max_steps: updates,
      logging_steps: 1,
      save_steps: 50,
      save_total_limit: 2,
    },
    callbacks: [{ onTrainBegin: () => void delay.enable(), onTrainEnd: () => void delay.disable() }],
    log: () => {},
  }).train();
  rmSync(output_dir, { recursive: true });
  const ms = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS).toFixed(2);
  const figures = [50, 90, 99, 99.9].map((p) => `p${p} ${ms(delay.percentile(p))}`);
  console.log(`${name}: ${updates} updates, delay in ms: ${figures.join(", ")}, max ${ms(delay.max)}`);
}
