/** What a run is going to do, said before it does it. */

import type { TrainingArguments } from "../arguments/index.js";
import type { LayerDescription, ModelDescription } from "../models/description.js";
import { describePrecision } from "../models/precision.js";
import { describeQuantization } from "../models/quantization.js";
import type { Optimizer, PagingStats } from "../optim/optimizer.js";
import { elementCount } from "../support/shape.js";
import { DEVICES, type Plan } from "./plan.js";
import type { PreparedRun } from "./prepare.js";

const number = (value: number) => value.toLocaleString("en-US");

function value(setting: unknown): string {
  return typeof setting === "string" ? setting : JSON.stringify(setting);
}

/** Lines for a person: settings that differ from the defaults, batch arithmetic, length, what is trained. */
export function describeRun(run: PreparedRun, args: TrainingArguments, plan: Plan, optimizer: Optimizer): string[] {
  const states = optimizer.describe();
  const settings = Object.entries(args.nonDefault()).map(([name, setting]) => `${name}=${value(setting)}`);
  const trained = run.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const share = ((100 * trained) / run.totalParameters).toFixed(2);
  const { packing } = run.report;
  const count = number(run.sequences.length);
  const examples = packing ? `${number(packing.examples)} examples packed into ${count} rows` : `${count} examples`;
  const { per_device_train_batch_size: size, gradient_accumulation_steps: accumulation } = args;
  return [
    `Model       ${run.modelName}: ${number(run.totalParameters)} parameters, ${number(trained)} trained (${share} %${run.lora ? `, LoRA on ${run.lora.paths.length} layers` : ""})`,
    ...describeParts(run.model.description),
    `Device      ${run.deviceNote}`,
    `Precision   ${describePrecision(run.precision)}; trained weights float32${run.quantization ? `; ${describeQuantization(run.quantization)}` : ""}${args.fp16 ? "; a dynamic loss scale" : ""}`,
    `Data        ${examples}, ${number(run.report.tokens)} tokens (at most ${number(run.report.longest)} in one row), ${number(run.report.labels)} of them learned`,
    ...run.evaluations.map(
      ({ name, sequences, report }) =>
        `Evaluation  ${name === undefined ? "" : `${name}: `}${number(sequences.length)} examples, ${number(report.labels)} tokens measured`,
    ),
    `Batch       ${size} per device × ${accumulation} accumulated × ${DEVICES} device${DEVICES === 1 ? "" : "s"} = ${plan.effectiveBatch} examples per update`,
    ...(run.passTokens > 0 && accumulation > 1
      ? [`            computed together up to ${run.passTokens} tokens at a time, with the same gradients`]
      : []),
    `Length      ${number(plan.stepsPerEpoch)} updates per epoch, ${number(plan.maxSteps)} in all${args.max_steps > 0 ? " (max_steps)" : ` (${args.num_train_epochs} epochs)`}`,
    ...(states ? [`Optimizer   ${args.optim}: ${states}`] : []),
    `Settings    ${settings.length ? settings.join(", ") : "all at their defaults"}`,
  ];
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
