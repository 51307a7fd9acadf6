/** What must be the same for a resumed run to be the same run. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { CONFIG } from "../../files/modelFolder.js";
import { resolveWeights } from "../../files/weights.js";
import type { Sequence } from "../../models/batch.js";
import type { CausalLM } from "../../models/causalLM.js";
import type { Quantization } from "../../models/quantization.js";
import type { TrainedParameter } from "../../optim/optimizer.js";
import type { RunIdentity } from "../../runFolder/state.js";
import { FILE_LIMITS, openRegularFile, readRegularFile } from "../../support/regularFile.js";

export async function runIdentity(run: {
  sequences: readonly Sequence[];
  evaluations: readonly { name: string | undefined; sequences: readonly Sequence[] }[];
  parameters: readonly TrainedParameter[];
  model: CausalLM;
  modelFolder: string;
  adapted: boolean;
  quantization: Quantization | undefined;
}): Promise<RunIdentity> {
  return {
    dataset: sequencesSum(run.sequences),
    parameters: parametersSum(run.parameters, run.model),
    base: await baseSum(run.modelFolder, run.adapted, run.quantization),
    ...(run.evaluations.length > 0 ? { evaluation: evaluationsSum(run.evaluations) } : {}),
  };
}

/** One without a name has the sum of its examples alone. */
function evaluationsSum(sets: Parameters<typeof runIdentity>[0]["evaluations"]): string {
  const sums = sets.map(({ name, sequences }) => ({ name, sum: sequencesSum(sequences) }));
  if (sums.length === 1 && sums[0]!.name === undefined) return sums[0]!.sum;
  return createHash("sha256").update(JSON.stringify(sums)).digest("hex");
}

function sequencesSum(sequences: readonly Sequence[]): string {
  const hash = createHash("sha256");
  for (const { inputIds, labels, lengths = [inputIds.length] } of sequences) {
    hash.update(Int32Array.of(lengths.length, ...lengths));
    hash.update(inputIds);
    hash.update(labels);
  }
  return hash.digest("hex");
}

function parametersSum(parameters: readonly TrainedParameter[], model: CausalLM): string {
  const shapes = parameters.map(({ name, shape }) => `${name} ${shape}`);
  const adapters = [...model.linears].flatMap(([path, { lora }]) =>
    lora ? [`${path} scaling ${lora.scaling} dropout ${lora.dropout}${lora.initial ? " beside its base" : ""}`] : [],
  );
  for (const rows of [model.decoder.rows, model.head.rows]) if (rows) adapters.push(`rows ${rows.tokens}`);
  return createHash("sha256")
    .update([...shapes, ...adapters].join("\n"))
    .digest("hex");
}

const SAMPLES = 256;
const SAMPLE_BYTES = 4096;

/** Weights that are trained come from the checkpoint; frozen ones are told apart by samples of their files. */
async function baseSum(folder: string, adapted: boolean, quantization: Quantization | undefined): Promise<string> {
  const hash = createHash("sha256").update(await readRegularFile(join(folder, CONFIG), FILE_LIMITS.config));
  if (!adapted) return hash.digest("hex");
  if (quantization) hash.update(JSON.stringify(quantization));
  for (const { path } of (await resolveWeights(folder)).headers) {
    const file = await openRegularFile(path);
    try {
      const { size } = await file.stat();
      hash.update(`${size}\n`);
      const buffer = Buffer.alloc(SAMPLE_BYTES);
      for (let i = 0; i < SAMPLES; i++) {
        const { bytesRead } = await file.read(buffer, 0, SAMPLE_BYTES, Math.floor((size / SAMPLES) * i));
        hash.update(buffer.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
  }
  return hash.digest("hex");
}
