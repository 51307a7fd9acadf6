/**
 * One run of tiny-llama that saves at every update, for a parent that kills it.
 *   node resume.child.mjs <model> <dataset> <output_dir> <resume: yes|no>
 * Prints a line when a checkpoint is whole.
 */
import { Trainer } from "../dist/index.js";

const [model, dataset, output_dir, resume] = process.argv.slice(2);
await new Trainer({
  model,
  dataset,
  lora: { r: 4, lora_alpha: 8, lora_dropout: 0.1, target_modules: "all-linear" },
  training_args: {
    output_dir,
    use_cpu: true,
    per_device_train_batch_size: 2,
    learning_rate: 1e-2,
    max_steps: 30,
    save_steps: 1,
    save_total_limit: 3,
    logging_steps: 1,
    resume_from_checkpoint: resume === "yes" ? true : null,
  },
  callbacks: [
    {
      onSave: (_args, state) => {
        process.stdout.write(`saved ${state.global_step}\n`);
      },
    },
  ],
  log: (line) => process.stderr.write(`${line}\n`),
}).train();
