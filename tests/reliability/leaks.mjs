/**
 * Whether anything grows with the updates of a run: memory, tensors, open files.
 * node --expose-gc tests/reliability/leaks.mjs [--updates 5000]
 */
import { readdirSync } from "node:fs";
import { liveTensors } from "../../dist/torch/index.js";
import { inFolder, mebibytes, options, tinyTrainer } from "./support.mjs";

const { updates } = options({ updates: 5000 });
const openFiles = () => readdirSync("/proc/self/fd").length;

console.log("update   resident MiB   heap MiB   native MiB   tensors   open files");
await inFolder(async (folder) => {
  const every = Math.ceil(updates / 10);
  const show = {
    onStepEnd: (_args, { global_step }) => {
      if (global_step !== 20 && global_step % every !== 0) return;
      globalThis.gc?.();
      const { rss, heapUsed, external } = process.memoryUsage();
      const cells = [
        String(global_step).padStart(6),
        mebibytes(rss).padStart(13),
        mebibytes(heapUsed).padStart(11),
        mebibytes(external).padStart(13),
        String(liveTensors()).padStart(10),
        String(openFiles()).padStart(13),
      ];
      console.log(cells.join(""));
    },
  };
  const rhythm = { eval_strategy: "steps", eval_steps: every / 5, save_steps: every / 5, save_total_limit: 2 };
  const args = { max_steps: updates, logging_steps: every, ...rhythm };
  await tinyTrainer(`${folder}/out`, args, { callbacks: [show] }).train();
});
console.log(`tensors after the run: ${liveTensors()}`);
