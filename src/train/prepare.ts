/** From a config to everything a run needs in memory: examples, model, adapter, what is trained. */

import { recomputeEvery } from "../arguments/gradientCheckpointing.js";
import type { TrainingArguments } from "../arguments/index.js";
import { describeReport, type ExampleReport, type ExampleSource, loadExamples } from "../data/examples.js";
import type { Row } from "../data/row.js";
import { type EvaluationRows, runData } from "../data/runData.js";
import type { DatasetInput, EvalDatasetInput } from "../data/sources.js";
import type { TokenizedDataset } from "../data/tokenize.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { type EvaluationSet, evaluates, loadEvaluations } from "../evaluate/evaluationData.js";
import { resolveModel } from "../hub/index.js";
import type { Layout, Sequence } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import { ropesOf } from "../models/decoder.js";
import { hasDropout, type ModelDescription } from "../models/description.js";
import { generationStops } from "../models/generationConfig.js";
import { describeModel, loadCausalLM } from "../models/load.js";
import { applyTf32, type Precision, precisionFor } from "../models/precision.js";
import { type Quantization, type QuantizationConfigInput, quantizationFor } from "../models/quantization.js";
import { dependsOnLongest } from "../models/rope.js";
import type { TrainedParameter } from "../optim/optimizer.js";
import { addAdapter, loadAdapter, loadOptionsFor } from "../peft/adapter.js";
import { trainedParameters } from "../peft/adapterFile.js";
import { type LoraConfigInput, loraSchema } from "../peft/config.js";
import { type AdapterPlan, planAdapter } from "../peft/plan.js";
import { StoredAdapter } from "../peft/storedAdapter.js";
import type { RunIdentity } from "../runFolder/state.js";
import { UserError } from "../support/errors.js";
import { elementCount } from "../support/shape.js";
import { zodProblem } from "../support/zodProblem.js";
import {
  chooseDevice,
  type Device,
  type DeviceChoice,
  describeDevice,
  manualSeed,
  setDeterministic,
  setRequiresGrad,
} from "../torch/index.js";
import type { Objective } from "./accumulate.js";
import { checkExamples } from "./health/checkExamples.js";
import { type HealthConfig, type HealthConfigInput, healthConfig } from "./health/config.js";
import { runIdentity } from "./saving/identity.js";

export interface RunSpec {
  /** A model folder in Hugging Face format, or a hub id such as `org/name`. */
  model: string;
  /** A PEFT adapter to go on training: a folder or a hub id. Not together with `lora`. */
  adapter?: string;
  /** What to learn: files or a hub dataset, or rows of your own (an array, an iterable, an async one, a function). */
  dataset: DatasetInput;
  /** Train a LoRA adapter. Absent: all weights are trained. */
  lora?: LoraConfigInput;
  /** Frozen weights in 4 or 8 bits. */
  quantization?: QuantizationConfigInput;
  /** What to do about numbers and data that would spoil the run. */
  health?: HealthConfigInput;
  /** cuda fails where there is no GPU. Absent: a GPU where there is one. */
  device?: DeviceChoice;
  /** What to measure the model on: as `dataset`, or several by name (`{ dev, hard }` gives `eval_dev_loss`, ...). */
  eval_dataset?: EvalDatasetInput;
  /** Rows of `dataset` to hold out and measure on instead: a share below 1, or a number of rows. Drawn with `seed`. */
  eval_split?: number;
  /** Of each dataset, no more than its first so many rows. */
  max_samples?: number;
}

/** Its keys. */
export const RUN_KEYS = [
  ...(["model", "adapter", "dataset", "eval_dataset", "eval_split", "max_samples"] as const),
  ...(["lora", "quantization", "health", "device"] as const),
] satisfies (keyof RunSpec)[];

export interface PreparedRun {
  /** As the config names it, for files that point back to the base model. */
  modelName: string;
  modelFolder: string;
  model: CausalLM;
  precision: Precision;
  device: Device;
  /** For a person: the device, and why it is that one. */
  deviceNote: string;
  quantization: Quantization | undefined;
  sequences: Sequence[];
  report: ExampleReport;
  /** The examples to measure on in the run; none when nothing is evaluated. */
  evaluations: EvaluationSet[];
  /** What the config names to measure on, also where the run does not. */
  evaluationRows: EvaluationRows[];
  /** The model's limits, for examples that are made later. */
  source: ExampleSource;
  layout: Layout;
  objective: Objective;
  passTokens: number;
  recomputeEvery: number;
  /** What ends an answer instead of the tokenizer's own token, where `eos_token` names it. */
  eos?: { token: string; id: number };
  /** Absent: all weights are trained. */
  lora?: AdapterPlan;
  parameters: TrainedParameter[];
  totalParameters: number;
  identity: RunIdentity;
}

export interface PrepareOptions {
  /** What to do about data that would spoil the run; default: as the key `health` has it. */
  health?: HealthConfig;
  log: (line: string) => void;
  signal?: AbortSignal;
}

/** Enough rows for matrix products to be fast; more gains little time and takes memory (docs/performance.md). */
const PASS_TOKENS = 512;

/**
 * Reads and tokenises the dataset, then loads the model: bad input is found before anything large is in memory.
 * The default generator is seeded before the adapter's weights are drawn, and again after, as the Trainer does.
 */
export async function prepareRun(
  spec: RunSpec,
  args: TrainingArguments,
  { health = healthConfig(spec.health, args), log, signal }: PrepareOptions,
): Promise<PreparedRun> {
  if (spec.adapter && spec.lora) {
    throw new UserError(
      "adapter: the config has `adapter` and `lora`. An existing adapter keeps its own settings; remove one of the two.",
    );
  }
  const data = runData(spec, args);
  const adapted = spec.lora !== undefined || spec.adapter !== undefined;
  const quantization = quantizationFor(spec.quantization, { frozen: adapted, bf16: args.bf16, fp16: args.fp16 });
  const modelFolder = await resolveModel(spec.model);
  const { description: config } = await describeModel(modelFolder);
  const adaptation = await planned(spec, config, quantization !== undefined);
  const lora = adaptation?.plan;
  for (const note of lora?.notes ?? []) log(`Note: ${note}`);
  const { maxPositions, vocabSize } = config;
  const source = { modelFolder, maxPositions, vocabSize };
  let eos: PreparedRun["eos"];
  const inspect = async (rows: readonly Row[], { examples, report }: TokenizedDataset, tokenizer: Tokenizer) => {
    const { eosToken, eosTokenId } = args.eos_token === null ? tokenizer : tokenizer.withEosToken(args.eos_token);
    if (args.eos_token !== null) eos = { token: args.eos_token, id: eosTokenId! };
    const stops = new Set([...config.eosTokenIds, ...(await generationStops(modelFolder))]);
    if (eosTokenId !== undefined) stops.add(eosTokenId);
    for (const note of checkExamples({ rows, examples, report, stops, stopText: eosToken }, health)) log(note);
  };
  const { sequences, report } = await loadExamples(data.train, source, args, args.packing, signal, inspect);
  signal?.throwIfAborted();
  const evaluations = evaluates(args) ? await loadEvaluations(data.evaluations, source, args, signal) : [];

  setDeterministic(args.full_determinism);
  const device = chooseDevice(args.use_cpu, spec.device);
  applyTf32(args.tf32, device);
  const precision = precisionFor(args, device);
  const trained = lora ? loadOptionsFor(lora) : { trained: () => true };
  const model = await loadCausalLM(modelFolder, { precision, device, quantization, ...trained });
  manualSeed(args.seed);
  try {
    if (adaptation?.stored) loadAdapter(model, lora!, adaptation.stored);
    else if (lora) addAdapter(model, lora);
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    adaptation?.stored?.close();
  }
  manualSeed(args.seed);

  const parameters = lora ? trainedParameters(model, lora) : [...model.parameters.values()];
  for (const { tensor } of parameters) setRequiresGrad(tensor, true);
  for (const line of describeReport(report)) log(line);
  for (const { label, report } of evaluations) for (const line of describeReport(report)) log(`${label}: ${line}`);
  return {
    modelName: spec.model,
    modelFolder,
    model,
    precision,
    device,
    deviceNote: describeDevice(device, args.use_cpu, spec.device),
    quantization,
    sequences,
    report,
    evaluations,
    evaluationRows: data.evaluations,
    source,
    layout: {
      // as TRL does: `wrapped` rows are padded, those of the other strategies are joined
      paddingFree: args.padding_free || (args.packing && args.packing_strategy !== "wrapped"),
      padToMultipleOf: args.pad_to_multiple_of,
    },
    objective: { labelSmoothing: args.label_smoothing_factor, neftuneAlpha: args.neftune_noise_alpha },
    recomputeEvery: recomputeEvery(args),
    eos,
    passTokens: microBatchesStandAlone(model, args, sequences) ? 0 : PASS_TOKENS,
    lora,
    parameters,
    totalParameters: lora ? model.size + addedParameters(model, lora, parameters) : model.size,
    identity: await runIdentity({
      sequences,
      evaluations,
      parameters,
      model,
      modelFolder,
      adapted: lora !== undefined,
      quantization,
    }),
  };
}

/**
 * Numbers that Python has beside the model's own: a module that is trained in full is a copy, a bias is not. A head that was
 * tied is counted by `model.size` and is one of the copies.
 */
function addedParameters(
  { description: { vocabSize, hiddenSize } }: CausalLM,
  { untied }: AdapterPlan,
  parameters: readonly TrainedParameter[],
): number {
  const copies = parameters.filter(({ name, role }) => role !== "bias" || name.endsWith(".lora_B.bias"));
  return copies.reduce((sum, { shape }) => sum + elementCount(shape), untied ? -vocabSize * hiddenSize : 0);
}

/**
 * Whether a micro-batch's result is its own: random numbers are drawn in its shape, or a rotation depends on its longest
 * sequence. Others can be computed together with the same result.
 */
function microBatchesStandAlone(
  { description, linears }: CausalLM,
  args: TrainingArguments,
  sequences: readonly Sequence[],
): boolean {
  const adapterDrops = [...linears.values()].some(({ lora }) => lora !== undefined && lora.dropout > 0);
  const longest = sequences.reduce((most, { inputIds }) => Math.max(most, inputIds.length), 0);
  return (
    adapterDrops ||
    hasDropout(description) ||
    args.neftune_noise_alpha !== null ||
    ropesOf(description).some((rope) => dependsOnLongest(rope, longest))
  );
}

/** What the adapter asks of the model, before any of its weights is loaded; undefined: all weights are trained. */
async function planned(
  { lora, adapter }: RunSpec,
  description: ModelDescription,
  quantized: boolean,
): Promise<{ plan: AdapterPlan; stored?: StoredAdapter } | undefined> {
  if (adapter) {
    const stored = await StoredAdapter.open(await resolveModel(adapter));
    return { plan: planAdapter(stored.config, description, { where: stored.where, quantized }), stored };
  }
  if (!lora) return undefined;
  const parsed = loraSchema.safeParse(lora);
  if (!parsed.success) throw new UserError(zodProblem(parsed.error, "lora"));
  return { plan: planAdapter(parsed.data, description, { quantized }) };
}
