/** The programs that are compared, and how each is started on a run. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { datasetEntries } from "../dist/data/config.js";

const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const peer = fileURLToPath(new URL("peer.py", import.meta.url));

/** Arguments of the config that the Python trainers get; the rest is the same in each (see peer.py). */
const shared = [
  ...["per_device_train_batch_size", "gradient_accumulation_steps", "max_steps", "num_train_epochs", "seed"],
  ...["learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "optim"],
];

/**
 * The words that start a run, with one log entry per update, its results going to a new folder `output`.
 * A run is {file, options, config}: a config file, the options over it, and both as loadConfig reads them.
 */
const slimtune =
  (...extra) =>
  ({ file, options }, output) => [
    ...[process.execPath, main, "train", file, ...options, "--output_dir", output],
    ...["--logging_steps", "1", "--save_strategy", "no", "--use_cpu", ...extra],
  ];

const python =
  (trainer, { bf16 = false } = {}) =>
  ({ config }, output, pythonPath) => {
    const { model, dataset, lora, training_args: args } = config;
    const [{ path, columns = { prompt: "prompt", completion: "completion" } }] = datasetEntries(dataset);
    mkdirSync(output, { recursive: true });
    const file = join(output, "run.json");
    const training_args = { ...Object.fromEntries(shared.map((name) => [name, args[name]])), bf16, output_dir: output };
    const run = {
      trainer,
      model,
      dataset: path,
      columns,
      lora: lora ?? null,
      max_length: args.max_length,
      training_args,
    };
    writeFileSync(file, JSON.stringify(run));
    return [pythonPath, "-u", peer, file]; // -u: each log line comes when it is printed
  };

/** `exact`: computes in float32, so that losses must agree. Python's bf16 is many times slower on some CPUs. */
export const contestants = {
  slimtune: { title: "slimtune", exact: true, command: slimtune() },
  "slimtune-bf16": { title: "slimtune, bf16", exact: false, command: slimtune("--bf16") },
  trl: { title: "TRL", exact: true, python: true, command: python("trl") },
  transformers: { title: "transformers", exact: true, python: true, command: python("transformers") },
  "trl-bf16": { title: "TRL, bf16", exact: false, python: true, command: python("trl", { bf16: true }) },
  "transformers-bf16": {
    title: "transformers, bf16",
    exact: false,
    python: true,
    command: python("transformers", { bf16: true }),
  },
};

/** Loss and gradient norm of each update, from the state file that every program writes. */
export function readCurve(output) {
  const { log_history } = JSON.parse(readFileSync(join(output, "trainer_state.json"), "utf8"));
  return log_history.filter((entry) => "loss" in entry).map(({ loss, grad_norm }) => ({ loss, grad_norm }));
}

const needed = ["torch", "transformers", "peft", "trl"];

/** Versions of the Python packages; undefined, with the reason told, when one is missing. */
export function pythonVersions(pythonPath, tell) {
  const script = `import json, importlib.metadata as m; print(json.dumps({p: m.version(p) for p in ${JSON.stringify(needed)}}))`;
  try {
    return JSON.parse(
      execFileSync(pythonPath, ["-c", script], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }),
    );
  } catch (error) {
    const reason = String(error.stderr || error.message)
      .trim()
      .split("\n")
      .at(-1);
    tell(`No comparison with Python: ${pythonPath} lacks one of ${needed.join(", ")} (${reason}).`);
    tell("Name a Python that has them with --python or SLIMTUNE_BENCH_PYTHON. slimtune runs alone.");
    return undefined;
  }
}
