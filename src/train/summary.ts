/** What a run is going to do, said before it does it. */

import type { TrainingArguments } from "../arguments/index.js";
import type { LayerDescription, ModelDescription } from "../models/description.js";
import { describePrecision } from "../models/precision.js";
import { describeQuantization } from "../models/quantization.js";
import type { Optimizer, PagingStats } from "../optim/optimizer.js";
import { createScheduler } from "../optim/schedulers.js";
import { elementCount } from "../support/shape.js";
import { nearPath, plural } from "../support/words.js";
import { DEVICES, type Plan } from "./plan.js";
import type { PreparedRun } from "./prepare.js";

const number = (value: number) => value.toLocaleString("en-US");

function value(setting: unknown): string {
  return typeof setting === "string" ? setting : JSON.stringify(setting);
}

/** What TRL's SFTTrainer has where nothing is given, unlike the Trainer: a number that surprises whoever comes from it. */
const TRL = { learning_rate: 2e-5 };
const TRAINER = { learning_rate: 5e-5 };

/** Lines for a person: what is trained on what, batch arithmetic, length, learning rate, optimizer, given settings. */
export function describeRun(run: PreparedRun, args: TrainingArguments, plan: Plan, optimizer: Optimizer): string[] {
  const states = optimizer.describe();
  const settings = Object.entries(args.nonDefault()).map(([name, setting]) => `${name}=${value(setting)}`);
  const trained = run.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const share = ((100 * trained) / run.totalParameters).toFixed(2);
  const { packing } = run.report;
  const rows = run.sequences.length;
  const examples = packing
    ? `${plural(packing.examples, "example")} packed into ${plural(rows, "row")}`
    : plural(rows, "example");
  const { per_device_train_batch_size: size, gradient_accumulation_steps: accumulation } = args;
  return [
    `Model       ${nearPath(run.modelName)}: ${number(run.totalParameters)} parameters, ${number(trained)} trained (${share} %${run.lora ? `, LoRA on ${plural(run.lora.paths.length, "layer")}` : ""})`,
    ...describeParts(run.model.description),
    `Device      ${run.deviceNote}`,
    `Precision   ${describePrecision(run.precision)}; trained weights float32${run.quantization ? `; ${describeQuantization(run.quantization)}` : ""}${args.fp16 ? "; a dynamic loss scale" : ""}${args.fp16 || args.bf16 ? "" : " (bf16 is off; TRL's SFTTrainer has it on)"}`,
    `Data        ${examples}, ${plural(run.report.tokens, "token")} (at most ${number(run.report.longest)} in one row), ${number(run.report.labels)} of them learned`,
    ...run.evaluations.map(
      ({ name, sequences, report }) =>
        `Evaluation  ${name === undefined ? "" : `${name}: `}${plural(sequences.length, "example")}, ${plural(report.labels, "token")} measured`,
    ),
    `Batch       ${size} per device × ${accumulation} accumulated × ${plural(DEVICES, "device")} = ${plural(plan.effectiveBatch, "example")} per update`,
    ...(run.passTokens > 0 && accumulation > 1
      ? [`            computed together up to ${run.passTokens} tokens at a time, with the same gradients`]
      : []),
    `Length      ${plural(plan.stepsPerEpoch, "update")} per epoch, ${number(plan.maxSteps)} in all (${args.max_steps > 0 ? "max_steps" : plural(args.num_train_epochs, "epoch")})`,
    `Rate        ${describeRate(args, plan)}`,
    `Optimizer   ${args.optim}, weight_decay ${args.weight_decay}, max_grad_norm ${args.max_grad_norm}${states ? `; ${states}` : ""}`,
    `Settings    ${settings.length ? settings.join(", ") : "all at their defaults"}`,
  ];
}

/** `2e-4, cosine, after 20 updates of warm-up`. */
function describeRate(args: TrainingArguments, { maxSteps }: Plan): string {
  const { learning_rate: rate, lr_scheduler_type: curve, metric_for_best_model } = args;
  const { warmupSteps, metric } = createScheduler(args, { maxSteps });
  const way = metric
    ? `, follows ${metric_for_best_model}`
    : curve === "constant"
      ? ""
      : warmupSteps > 0
        ? `, after ${plural(warmupSteps, "update")} of warm-up`
        : ", no warm-up";
  const other =
    rate === TRAINER.learning_rate
      ? ` (the Trainer's default rate; TRL's SFTTrainer has ${TRL.learning_rate.toExponential()})`
      : "";
  return `${rate === 0 ? "0" : rate.toExponential()}, ${curve}${way}${other}`;
}

/** What a person may not expect of the model: parts that are not trained, dropout that its config.json asks for. */
function describeParts({ modelType, others, embedding, layers }: ModelDescription): string[] {
  const most = (of: (layer: LayerDescription) => number) => Math.max(...layers.map(of));
  const dropouts = Object.entries({
    embeddings: embedding.dropout,
    "attention weights": most(({ attention }) => attention.weightDropout),
    "attention outputs": most(({ attention }) => attention.dropout),
    "MLP outputs": most(({ mlp }) => mlp.dropout),
  }).filter(([, p]) => p > 0);
  return [
    ...(others?.carried
      ? [`            the text part of a ${modelType} model; the weights of its other parts stay as they are`]
      : []),
    ...(dropouts.length > 0
      ? [`Dropout     by the model's config.json: ${dropouts.map(([what, p]) => `${p} on ${what}`).join(", ")}`]
      : []),
  ];
}

/** What paging cost, after a run whose states moved. */
export function describePaging(stats: PagingStats | undefined): string | undefined {
  if (!stats?.moved) return undefined;
  const { pages, resident, moved, waited } = stats;
  return `Optimizer   ${resident} of ${pages} pages stayed in memory; ${(moved / 2 ** 20).toFixed(1)} MiB were moved out, which took ${waited.toFixed(2)} s`;
}
