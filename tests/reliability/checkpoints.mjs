/**
 * How long it takes to resume among many checkpoints, and to remove them.
 * node tests/reliability/checkpoints.mjs [--checkpoints 2000]
 */
import { readdirSync } from "node:fs";
import { inFolder, options, seconds, tinyTrainer } from "./support.mjs";

const { checkpoints } = options({ checkpoints: 2000 });
const saving = { save_strategy: "steps", save_steps: 1, logging_steps: 1 };
const count = (output) => readdirSync(output).filter((name) => name.startsWith("checkpoint-")).length;

/** Seconds until the first update begins. */
async function resume(output, args) {
  const begun = performance.now();
  let started;
  const clock = {
    onTrainBegin: () => {
      started = seconds(begun);
    },
  };
  const more = { resume_from_checkpoint: true, ...saving, ...args };
  await tinyTrainer(output, more, { callbacks: [clock] }).train();
  return { started, whole: seconds(begun) };
}

await inFolder(async (folder) => {
  const [few, many] = [`${folder}/few`, `${folder}/many`];
  await tinyTrainer(few, { ...saving, max_steps: 2 }).train();
  const begun = performance.now();
  await tinyTrainer(many, { ...saving, max_steps: checkpoints }).train();
  console.log(`${count(many)} checkpoints made in ${seconds(begun)} s`);
  console.log(`resume among 2: training after ${(await resume(few, { max_steps: 3 })).started} s`);
  const next = await resume(many, { max_steps: checkpoints + 1 });
  console.log(`resume among ${checkpoints}: training after ${next.started} s`);
  const limited = await resume(many, { max_steps: checkpoints + 2, save_total_limit: 2 });
  console.log(
    `resume among ${checkpoints + 1} with save_total_limit 2: done in ${limited.whole} s, ${count(many)} left`,
  );
});
