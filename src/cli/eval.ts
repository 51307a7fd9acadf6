import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { Command } from "commander";
import type { Override } from "../config/overrides.js";
import type { EvaluationConfig } from "../evaluate/evaluateModel.js";
import { UserError } from "../support/errors.js";
import { isHubId } from "../support/hubId.js";
import { tell } from "../support/plainText.js";
import { person, wrap } from "../support/terminal.js";
import { nearPath } from "../support/words.js";
import { zodProblem } from "../support/zodProblem.js";
import { placeOf, sourceOf } from "./source.js";

/** `slimtune eval config.yaml`, or `slimtune eval --model DIR --dataset FILE`: how good a model is on held-out data. */
export function evalCommand(): Command {
  return new Command("eval")
    .description("measure a trained model, or any model, on held-out data")
    .usage("[CONFIG.yaml | RUN] [--model DIR] [--adapter DIR] [--dataset FILE] [--json] [--name value ...]")
    .argument("[words...]", "a config file, a run's folder, an adapter or a model, and options")
    .allowUnknownOption()
    .addHelpText(
      "after",
      `
With a config file: measures what training left in its output_dir, on its eval_dataset.
With a run's folder: the same, as the run had them. With an adapter or a model: on --dataset.
  --model DIR      measure this model instead (for instance the base model, to compare)
  --adapter DIR    with this PEFT adapter on it
  --dataset FILE   on this data instead
  --device DEVICE  cpu, or cuda, which fails where there is no GPU
  --quantization.load_in_4bit true   with weights in 4 bits; other options of it likewise
  --json           print the metrics as JSON, at full precision
Other options are training arguments, such as --per_device_eval_batch_size 16, --max_length 512 or --bf16.`,
    )
    .action(async (_: unknown, __: unknown, command: Command) => runEval(command.args));
}

/** Measures, and prints the metrics on stdout. @throws UserError for what a user can mend. */
export async function runEval(words: readonly string[]): Promise<void> {
  const asJson = words.includes("--json");
  const { parseWords } = await import("../config/overrides.js");
  const { files, overrides } = parseWords(words.filter((word) => word !== "--json"));
  if (files.length > 1) {
    throw new UserError(
      `unexpected "${files[1]}" on the command line: one model is measured. A value with spaces needs quotes.`,
    );
  }
  const [name] = files;
  const config =
    name === undefined
      ? await fromOptions(overrides)
      : isConfigFile(name)
        ? await fromConfig(name, overrides)
        : await fromRun(name, overrides);
  tell(
    `Model       ${nearPath(config.model)}${config.adapter === undefined ? "" : ` with ${nearPath(config.adapter)}`}`,
  );
  const onBatch = (batch: number, batches: number) =>
    person.draw(batch < batches ? `evaluating ${batch}/${batches}` : "");
  const { evaluateModel } = await import("../evaluate/evaluateModel.js");
  const metrics = await evaluateModel({ ...config, onBatch });
  process.stdout.write(asJson ? `${JSON.stringify(metrics, null, 2)}\n` : await table(metrics));
}

/** What a metric tells, for a person who sees it for the first time. */
const MEANINGS: Record<string, string> = {
  eval_loss: "mean of -log p over the measured tokens; lower is better",
  eval_perplexity: "e^loss: as unsure as between this many tokens",
  eval_mean_token_accuracy: "share of tokens that were the model's first choice",
  eval_entropy: "how spread the model's choices are, in nats",
  eval_runtime: "seconds",
};

async function table(metrics: Readonly<Record<string, number>>): Promise<string> {
  const { formatNumber } = await import("../callbacks/logLines.js");
  const rows = Object.entries(metrics).map(
    ([name, value]) => [name, formatNumber(value), MEANINGS[name] ?? ""] as const,
  );
  const width = (column: 0 | 1) => Math.max(...rows.map((row) => row[column].length));
  const { isTTY, columns } = process.stdout;
  return rows
    .map(([name, value, meaning]) => `${name.padEnd(width(0))}  ${value.padStart(width(1))}  ${meaning}`.trimEnd())
    .flatMap((line) => (isTTY ? wrap(line, columns - 1, width(0) + width(1) + 4) : [line]))
    .map((line) => `${line}\n`)
    .join("");
}

const given = (overrides: readonly Override[], key: string) => overrides.some(({ path }) => path[0] === key);

/** `--dataset` is what to measure on; a config's own `dataset` is what it trained on. */
const measured = (override: Override): Override =>
  override.path[0] === "dataset" ? { ...override, path: ["eval_dataset", ...override.path.slice(1)] } : override;

/** Folders and hub ids name a model; anything else is read as a config. */
const isConfigFile = (name: string) =>
  existsSync(name) ? statSync(name).isFile() : /\.(ya?ml|json)$/i.test(name) || !isHubId(name);

/** What is measured outside of a run is nobody's training; these arguments of a run decide how. */
async function fromRun(name: string, overrides: readonly Override[]): Promise<EvaluationConfig> {
  const source = await sourceOf(name, modelGiven(overrides));
  const { readRecord } = await import("../runFolder/record.js");
  const record = (await readRecord(name)) ?? (await readRecord(dirname(name)));
  const { eval_dataset, quantization, device, training_args = {} } = (record?.config ?? {}) as Record<string, unknown>;
  const { hub_token: _, ...args } = training_args as Record<string, unknown>;
  const of = (key: string, value: unknown, ...rest: string[]): Override[] =>
    value === undefined ? [] : [{ given: name, path: [key, ...rest], value }];
  const fromRecord = [
    ...of("device", device),
    ...Object.entries(args).flatMap(([argument, value]) => of("training_args", value, argument)),
    ...Object.entries(quantization ?? {}).flatMap(([option, value]) => of("quantization", value, option)),
    ...of("model", source.model),
    ...of("adapter", source.adapter),
  ];
  const others = overrides.filter(({ path }) => path[0] !== "model");
  if (eval_dataset === undefined && !given(overrides, "dataset")) {
    throw new UserError(`${name}: its run had no eval_dataset; give --dataset FILE`);
  }
  return fromOptions([...fromRecord, ...others], eval_dataset as EvaluationConfig["dataset"]);
}

const modelGiven = (overrides: readonly Override[]) =>
  overrides.findLast(({ path }) => path[0] === "model")?.value as string | undefined;

async function fromConfig(file: string, overrides: readonly Override[]): Promise<EvaluationConfig> {
  const { loadConfig } = await import("../config/index.js");
  const { model, adapter, eval_dataset, quantization, device, training_args } = await loadConfig(
    file,
    overrides.map(measured),
  );
  if (eval_dataset === undefined) {
    throw new UserError(`${file}: it has no eval_dataset; add one, or give --dataset FILE`);
  }
  const common = { dataset: eval_dataset, quantization, device, training_args };
  if (given(overrides, "adapter")) return { ...common, model, adapter };
  if (given(overrides, "model")) return { ...common, model };
  const output_dir = await placeOf(training_args.output_dir);
  if (existsSync(join(output_dir, "adapter_config.json"))) return { ...common, model, adapter: output_dir };
  if (existsSync(join(output_dir, "config.json"))) return { ...common, model: output_dir };
  throw new UserError(
    `output_dir: ${output_dir} holds no trained model. Train first (npx slimtune train ${file}), or name a model: --model ${model}`,
  );
}

/** @param known the data where no option names any */
async function fromOptions(
  overrides: readonly Override[],
  known?: EvaluationConfig["dataset"],
): Promise<EvaluationConfig> {
  const values: Record<string, unknown> = {};
  const args: Record<string, unknown> = {};
  const quantization: Record<string, unknown> = {};
  for (const { given: option, path, value } of overrides.map(measured)) {
    const [key, inner, ...rest] = path;
    if (key === "training_args" && inner !== undefined && rest.length === 0) args[inner] = value;
    else if (key === "quantization" && inner !== undefined && rest.length === 0) quantization[inner] = value;
    else if (["model", "adapter", "eval_dataset", "device"].includes(key) && inner === undefined) values[key] = value;
    else throw new UserError(`${option}: npx slimtune eval takes it in a config file only`);
  }
  if (values.model === undefined) {
    throw new UserError("nothing to evaluate: give a config file, a run's folder, or --model DIR and --dataset FILE");
  }
  if (values.eval_dataset === undefined && known === undefined)
    throw new UserError("nothing to evaluate on: give --dataset FILE");
  const { resolveModel } = await import("../config/paths.js");
  const { TrainingArguments } = await import("../arguments/index.js");
  const local = (option: string, value: unknown) => {
    const resolved = resolveModel(String(value), process.cwd());
    if ("problem" in resolved) throw new UserError(`${option}: ${resolved.problem}`);
    return resolved.value;
  };
  return {
    model: local("--model", values.model),
    ...(values.adapter === undefined ? {} : { adapter: local("--adapter", values.adapter) }),
    ...(Object.keys(quantization).length === 0 ? {} : { quantization }),
    dataset: values.eval_dataset === undefined ? known! : await dataGiven(values.eval_dataset),
    ...(values.device === undefined ? {} : { device: deviceOf(values.device) }),
    training_args: new TrainingArguments(args),
  };
}

/** What `--dataset` names, each place seen from the current folder. */
async function dataGiven(value: unknown): Promise<EvaluationConfig["dataset"]> {
  const { datasetSchema } = await import("../data/config.js");
  const { resolveDataset } = await import("../config/paths.js");
  const dataset = datasetSchema.safeParse(value);
  if (!dataset.success) throw new UserError(zodProblem(dataset.error, "--dataset"));
  const place = (path: string) => {
    const resolved = resolveDataset(path, process.cwd());
    if ("problem" in resolved) throw new UserError(`--dataset: ${resolved.problem}`);
    return resolved.value;
  };
  return [dataset.data].flat().map((entry) => {
    if (typeof entry === "string") return place(entry);
    return { ...entry, path: place(entry.path) };
  });
}

function deviceOf(value: unknown): "cpu" | "cuda" {
  if (value === "cpu" || value === "cuda") return value;
  throw new UserError(`--device: expected cpu or cuda, got ${JSON.stringify(value)}`);
}
