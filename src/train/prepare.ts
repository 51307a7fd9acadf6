/** From a config to everything a run needs in memory: examples, model, adapter, what is trained. */
import { createHash } from "node:crypto";
import type { DatasetSpec } from "../data/config.js";
import { loadRows } from "../data/read.js";
import { type TokenizeReport, tokenizeDataset } from "../data/tokenize.js";
import { Tokenizer } from "../data/tokenizer.js";
import { UserError } from "../errors.js";
import { resolveDataset, resolveModel } from "../hub/index.js";
import type { Sequence } from "../models/batch.js";
import type { CausalLM } from "../models/causalLM.js";
import { readModelConfig } from "../models/config.js";
import { loadCausalLM } from "../models/load.js";
import { type Precision, precisionFor } from "../models/precision.js";
import type { TrainedParameter } from "../optim/optimizer.js";
import { loadAdapter } from "../peft/adapterFile.js";
import { type LoraConfig, type LoraConfigInput, loraSchema } from "../peft/config.js";
import { addLora } from "../peft/lora.js";
import { manualSeed, setRequiresGrad } from "../torch/index.js";
import type { TrainingArguments } from "./arguments/index.js";
import type { RunIdentity } from "./checkpoint/resumable.js";

export interface RunSpec {
  model: string;
  adapter?: string;
  dataset: DatasetSpec;
  lora?: LoraConfigInput;
}

export interface PreparedRun {
  /** As the config names it, for files that point back to the base model. */
  modelName: string;
  modelFolder: string;
  model: CausalLM;
  precision: Precision;
  examples: Sequence[];
  report: TokenizeReport;
  /** Absent: all weights are trained. */
  lora?: { config: LoraConfig; paths: string[] };
  parameters: TrainedParameter[];
  bodyTrains: boolean;
  totalParameters: number;
  identity: RunIdentity;
}

const count = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

/**
 * Reads and tokenises the dataset, then loads the model: bad input is found before anything large is in memory.
 * The default generator is seeded before the adapter's weights are drawn, and again after, as the Trainer does.
 */
export async function prepareRun(
  spec: RunSpec,
  args: TrainingArguments,
  log: (line: string) => void,
  signal?: AbortSignal,
): Promise<PreparedRun> {
  if (spec.adapter && spec.lora) {
    throw new UserError(
      "adapter: the config has `adapter` and `lora`. An existing adapter keeps its own settings; remove one of the two.",
    );
  }
  const modelFolder = await resolveModel(spec.model);
  const config = await readModelConfig(modelFolder);
  const tokenizer = await Tokenizer.load(modelFolder);
  const rows = await loadRows(spec.dataset, {
    resolveDatasetPath: resolveDataset,
    dataset_text_field: args.dataset_text_field,
    signal,
  });
  const { examples, report } = await tokenizeDataset(rows, tokenizer, {
    max_length: args.max_length,
    truncation_mode: args.truncation_mode,
    completion_only_loss: args.completion_only_loss,
    assistant_only_loss: args.assistant_only_loss,
    dataset_text_field: args.dataset_text_field,
    eos_token: args.eos_token,
    max_positions: config.maxPositions,
    signal,
  });
  checkVocabulary(examples, config.vocabSize, modelFolder);

  const adapted = spec.lora !== undefined || spec.adapter !== undefined;
  const precision = precisionFor(args.bf16);
  const model = await loadCausalLM(modelFolder, { precision, trained: !adapted });
  manualSeed(args.seed);
  let lora: PreparedRun["lora"];
  try {
    lora = await adapt(model, spec);
  } catch (error) {
    model.dispose();
    throw error;
  }
  manualSeed(args.seed);

  const parameters = trainedParameters(model, lora);
  for (const { tensor } of parameters) setRequiresGrad(tensor, true);
  const base = [...model.parameters.values()].reduce((sum, { shape }) => sum + count(shape), 0);
  const trained = parameters.reduce((sum, { shape }) => sum + count(shape), 0);
  for (const line of describeReport(report)) log(line);
  return {
    modelName: spec.model,
    modelFolder,
    model,
    precision,
    examples,
    report,
    lora,
    parameters,
    bodyTrains: lora === undefined || lora.paths.some((path) => path !== "lm_head"),
    totalParameters: lora ? base + trained : base,
    identity: { dataset: fingerprint(examples), parameters: parameterFingerprint(parameters) },
  };
}

async function adapt(model: CausalLM, { lora, adapter }: RunSpec): Promise<PreparedRun["lora"]> {
  if (adapter) {
    const config = await loadAdapter(model, await resolveModel(adapter));
    return { config, paths: [...model.linears].filter(([, { lora: weights }]) => weights).map(([path]) => path) };
  }
  if (!lora) return undefined;
  const parsed = loraSchema.safeParse(lora);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UserError(`lora${issue.path.map((key) => `.${String(key)}`).join("")}: ${issue.message}`);
  }
  return { config: parsed.data, paths: addLora(model, parsed.data) };
}

function trainedParameters(model: CausalLM, lora: PreparedRun["lora"]): TrainedParameter[] {
  if (!lora) return [...model.parameters.values()];
  return lora.paths.flatMap((path) => {
    const { lora: weights, inFeatures, outFeatures } = model.linears.get(path)!;
    const { a, b, rank } = weights!;
    return [
      { name: `base_model.model.${path}.lora_A.weight`, tensor: a, shape: [rank, inFeatures] },
      { name: `base_model.model.${path}.lora_B.weight`, tensor: b, shape: [outFeatures, rank] },
    ];
  });
}

function checkVocabulary(examples: readonly Sequence[], vocabulary: number, folder: string): void {
  for (const { inputIds } of examples) {
    for (const id of inputIds) {
      if (id >= vocabulary) {
        throw new UserError(
          `model: ${folder}: its tokenizer gives the id ${id}, but config.json says vocab_size ${vocabulary}. The tokenizer belongs to another model.`,
        );
      }
    }
  }
}

function fingerprint(examples: readonly Sequence[]): string {
  const hash = createHash("sha256");
  for (const { inputIds, labels } of examples) {
    hash.update(Int32Array.of(inputIds.length));
    hash.update(inputIds);
    hash.update(labels);
  }
  return hash.digest("hex");
}

function parameterFingerprint(parameters: readonly TrainedParameter[]): string {
  const text = parameters.map(({ name, shape }) => `${name} ${shape}`).join("\n");
  return createHash("sha256").update(text).digest("hex");
}

/** What happened to the rows that a user would want to know. */
function describeReport(report: TokenizeReport): string[] {
  const lines: string[] = [];
  const say = (rows: number, what: string) => {
    if (rows > 0) lines.push(`${rows} of ${report.rows} rows ${what}`);
  };
  say(report.truncated, "are longer than max_length and were cut");
  say(report.cutToPositions, "are longer than the model's positions and were cut");
  say(report.droppedFullyMasked, "have no token to learn from and were left out");
  say(
    report.promptNotPrefix,
    "have a prompt whose tokens are not the first tokens of the whole: the border is approximate",
  );
  say(report.specialTokensInText, "hold the text of a special token, which became that token");
  return lines;
}
