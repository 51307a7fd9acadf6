/** With gradient checkpointing the gradients are the same bits, dropout and all. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { TrainingArgumentsInput } from "../src/index.js";
import { collate, paddedShape, type Sequence } from "../src/models/batch.js";
import { Decoder } from "../src/models/decoder.js";
import { loadCausalLM } from "../src/models/load.js";
import type { Precision } from "../src/models/precision.js";
import type { LoraConfigInput } from "../src/peft/config.js";
import { flush, gradOf, liveTensors, manualSeed, ops, rngState, setRequiresGrad } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { addLora } from "./support/lora.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyTrainer } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  vi.restoreAllMocks();
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

interface Case {
  model: string;
  lora?: LoraConfigInput;
  precision?: Precision;
  neftuneAlpha?: number;
}

/** Rows of 5 to 19 tokens: dropout draws over their padded shape. */
const rows = Array.from({ length: 8 }, (_, row): Sequence => {
  const inputIds = Int32Array.from({ length: 5 + 2 * row }, (_, i) => (37 * row + 31 * i) % 384);
  return { inputIds, labels: inputIds };
});

/** Losses of two micro-batches, the bytes of every gradient of both together, and what the generator draws next. */
async function train({ model: name, lora, precision, neftuneAlpha = null as never }: Case, recomputeEvery: number) {
  const model = await loadCausalLM(fixturePath(name), { precision, trained: () => lora === undefined });
  manualSeed(3);
  const leaves = () =>
    lora
      ? [...model.linears].flatMap(([path, { lora }]) =>
          lora
            ? ([
                [`${path}.A`, lora.a],
                [`${path}.B`, lora.b],
              ] as const)
            : [],
        )
      : [...model.parameters].map(([key, { tensor }]) => [key, tensor] as const);
  if (lora) {
    addLora(model, lora);
    for (const { lora: weights } of model.linears.values()) if (weights) ops.normal_(weights.b, 0, 0.1);
  }
  for (const [, leaf] of leaves()) setRequiresGrad(leaf, true);
  const losses: number[] = [];
  for (const part of [rows.slice(0, 4), rows.slice(4)]) {
    const noise = { padded: paddedShape(part, { paddingFree: false, padToMultipleOf: null }), neftuneAlpha };
    const loss = model.lossAndGradients(collate(part), 50, { noise, recomputeEvery });
    losses.push(await loss.item());
    loss.dispose();
  }
  const gradients: Record<string, string> = {};
  for (const [key, leaf] of leaves()) {
    const gradient = gradOf(leaf);
    gradients[key] = Buffer.from(await gradient.bytes()).toString("base64");
    gradient.dispose();
  }
  const random = Buffer.from(await rngState()).toString("base64");
  model.dispose();
  return { losses, gradients, random };
}

const dropout: LoraConfigInput = { ...TINY_LORA, lora_dropout: 0.2 };
const onHead: LoraConfigInput = { ...dropout, target_modules: ["q_proj", "down_proj", "lm_head"] };
const cases: Record<string, Case> = {
  LoRA: { model: "tiny-llama", lora: TINY_LORA },
  "LoRA with dropout": { model: "tiny-llama", lora: dropout },
  "LoRA with dropout and noise": { model: "tiny-llama", lora: dropout, neftuneAlpha: 5 },
  "LoRA on the upper layer and the head": {
    model: "tiny-llama",
    lora: { r: 4, target_modules: ".*(1\\.mlp\\.up_proj|lm_head)" },
  },
  "LoRA on the head": { model: "tiny-llama", lora: { r: 4, target_modules: ["lm_head"] } },
  "LoRA with dropout on the head too": { model: "tiny-llama-tied", lora: onHead },
  "DoRA with dropout": { model: "tiny-llama", lora: { ...onHead, use_dora: true } },
  "DoRA from PiSSA with dropout, in bf16": {
    model: "tiny-llama",
    lora: { ...onHead, use_dora: true, init_lora_weights: "pissa" },
    precision: { frozen: "bfloat16", compute: "bfloat16" },
  },
  "all weights": { model: "tiny-llama" },
  "all weights, tied": { model: "tiny-llama-tied" },
  "all weights, with biases": { model: "tiny-llama-bias" },
  "bf16 storage": { model: "tiny-llama", lora: dropout, precision: { frozen: "bfloat16", compute: "float32" } },
  "bf16 arithmetic, dropout on the head too": {
    model: "tiny-llama",
    lora: onHead,
    precision: { frozen: "bfloat16", compute: "bfloat16" },
  },
  "bf16 arithmetic": { model: "tiny-llama", lora: dropout, precision: { frozen: "bfloat16", compute: "bfloat16" } },
};

describe.each(Object.entries(cases))("%s", (name, one) => {
  it.each([1, 2, 5])("one layer of %d", async (every) => {
    const layers = vi.spyOn(Decoder.prototype, "layer");
    const expected = await train(one, 0);
    const once = layers.mock.calls.length;
    const actual = await train(one, every);
    expect(actual.losses).toEqual(expected.losses);
    expect(actual.random).toBe(expected.random);
    expect(Object.keys(actual.gradients).length).toBeGreaterThan(0);
    for (const [key, bytes] of Object.entries(expected.gradients)) {
      expect(bytes, key).not.toMatch(/^A*=*$/); // not all zeros
      expect(actual.gradients[key] === bytes, key).toBe(true);
    }
    const again = layers.mock.calls.length - 2 * once;
    const trained = name === "LoRA on the head" ? [] : name.includes("upper") ? [1] : [0, 1];
    expect(again).toBe(2 * trained.filter((layer) => layer % every === 0).length); // two micro-batches
  });
});

describe("runs", () => {
  const ARGS: TrainingArgumentsInput = {
    save_strategy: "steps",
    save_steps: 4,
    max_steps: 8,
    gradient_accumulation_steps: 2,
  };
  const weightsOf = (folder: string) => readFileSync(join(folder, "adapter_model.safetensors"));
  const more = { lora: { ...TINY_LORA, lora_dropout: 0.2 } };

  it("end with the same weights, resumed or not", async () => {
    const [plain, checkpointed] = [newFolder(), newFolder()];
    const args = { ...ARGS, lr_scheduler_type: "constant" } as const; // so that a shorter run is the start of a longer one
    await tinyTrainer(plain, args, more).train();
    const gradient_checkpointing_kwargs = { use_reentrant: false };
    const saving = { ...args, gradient_checkpointing: true, gradient_checkpointing_kwargs };
    await tinyTrainer(checkpointed, { ...saving, max_steps: 4 }, more).train();
    expect(weightsOf(checkpointed).equals(weightsOf(plain))).toBe(false);
    await tinyTrainer(checkpointed, { ...saving, resume_from_checkpoint: true }, more).train();
    expect(weightsOf(checkpointed).equals(weightsOf(plain))).toBe(true);
  });

  it("hold no more tensors after more updates", async () => {
    const counts: number[] = [];
    const onStepEnd = () => void counts.push(liveTensors());
    const args = { ...ARGS, save_strategy: "no", gradient_checkpointing: true } as const;
    await tinyTrainer(newFolder(), args, { ...more, callbacks: [{ onStepEnd }] }).train();
    expect(counts).toHaveLength(8);
    expect(new Set(counts).size).toBe(1);
  });
});
