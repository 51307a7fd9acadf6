/** What a run has to compute, counted from its data: the same for every program that trains it. */
import { epochOrder } from "../dist/data/order.js";
import { loadRows } from "../dist/data/read.js";
import { tokenizeDataset } from "../dist/data/tokenize.js";
import { Tokenizer } from "../dist/data/tokenizer.js";
import { readModelConfig } from "../dist/models/config.js";
import { linearsOf } from "../dist/models/description.js";
import { planRun, windowOf } from "../dist/train/plan.js";

/** A window of examples: all tokens, those whose next token is a label, and tokens with the padding to equal length. */
function count(batches) {
  const total = { tokens: 0, labels: 0, padded: 0 };
  for (const batch of batches) {
    for (const { inputIds, labels } of batch) {
      total.tokens += inputIds.length;
      total.labels += labels.subarray(1).filter((label) => label !== -100).length;
    }
    total.padded += batch.length * Math.max(...batch.map(({ inputIds }) => inputIds.length));
  }
  return total;
}

/** Weights of the linear layers inside the decoder, and of the output head. */
async function linearWeights(folder) {
  const { layers, head } = await readModelConfig(folder);
  const count = (linears) => linears.reduce((sum, linear) => sum + linear.in * linear.out, 0);
  return { decoder: count(layers.flatMap(linearsOf)), head: count([head.linear]) };
}

/**
 * Tokens and FLOPs of the first updates of a run, in the order of training. FLOPs are those of the model's own linear
 * layers, with the head at labelled tokens only: 4 per weight and token where weights are frozen (forward, and backward to
 * the activations), 6 where they are trained (and backward to the weights).
 */
export async function workload(config, steps) {
  const { training_args: args } = config;
  const rows = await loadRows(config.dataset, { dataset_text_field: args.dataset_text_field });
  const { examples } = await tokenizeDataset(rows, await Tokenizer.load(config.model), args);
  const { decoder, head } = await linearWeights(config.model);
  const plan = planRun(examples.length, args);
  const size = args.per_device_train_batch_size;
  const perWeight = config.lora ? 4 : 6;
  const work = [];
  for (let step = 0; step < steps; step++) {
    const order = await epochOrder(plan.examples, Math.floor(step / plan.stepsPerEpoch), args);
    const [first, end] = windowOf(plan, step % plan.stepsPerEpoch, args.gradient_accumulation_steps);
    const batches = Array.from({ length: end - first }, (_, i) =>
      Array.from(order.subarray((first + i) * size, (first + i + 1) * size), (row) => examples[row]),
    );
    const counted = count(batches);
    work.push({ ...counted, flops: perWeight * (decoder * counted.tokens + head * counted.labels) });
  }
  return work;
}
