/**
 * A run that has logged a million times: how long a resume takes to put metrics.jsonl right, and a save to write the log.
 * node tests/reliability/metrics.mjs [--lines 1000000]
 */
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { seal } from "../../dist/runFolder/manifest.js";
import { inFolder, mebibytes, options, seconds, tinyTrainer } from "./support.mjs";

const { lines } = options({ lines: 1_000_000 });

await inFolder(async (folder) => {
  const output = `${folder}/out`;
  const args = { save_strategy: "steps", save_steps: 2, logging_steps: 1 };
  await tinyTrainer(output, { ...args, max_steps: 2 }).train();

  const checkpoint = `${output}/checkpoint-2`;
  const path = `${checkpoint}/trainer_state.json`;
  const state = JSON.parse(readFileSync(path, "utf8"));
  const entry = state.log_history[0];
  state.log_history = Array.from({ length: lines }, (_, i) => ({ ...entry, loss: 3 + 1 / (i + 1) }));
  writeFileSync(path, `${JSON.stringify(state, null, 2)}\n`);
  rmSync(`${checkpoint}/manifest.json`);
  await seal(checkpoint);
  const metrics = `${output}/metrics.jsonl`;
  const log = state.log_history.map(({ step, ...rest }) => JSON.stringify({ step, ...rest, time: 1.7e9 }));
  writeFileSync(metrics, `${log.join("\n")}\n{"step": 3, "loss": 1}\n{"step": 4, "lo`); // what a killed process had gone on to

  const times = {};
  const begun = performance.now();
  const clock = {
    onTrainBegin: () => {
      times.begun = performance.now();
    },
    onStepBegin: () => {
      times.started ??= seconds(begun);
    },
    onStepEnd: () => {
      times.saving = performance.now();
    },
    onSave: () => {
      times.saved ??= seconds(times.saving);
    },
  };
  await tinyTrainer(output, { ...args, max_steps: 4, resume_from_checkpoint: true }, { callbacks: [clock] }).train();
  const kept = readFileSync(metrics, "utf8").trimEnd().split("\n");
  console.log(
    `metrics.jsonl: ${lines} lines, ${mebibytes(statSync(metrics).size)} MiB; after the resume ${kept.length}`,
  );
  console.log(`first update begins after ${times.started} s; a save takes ${times.saved} s`);
  console.log(`trainer_state.json: ${mebibytes(statSync(`${output}/trainer_state.json`).size)} MiB`);
  console.log(`peak resident memory: ${mebibytes(process.resourceUsage().maxRSS * 1024)} MiB`);
});
