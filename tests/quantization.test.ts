/** Training over quantized weights: what it costs in memory and in the loss, resuming, using the adapter, bad settings. */
import { execFileSync } from "node:child_process";
import { cpSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { type TensorEntry, writeSafetensors } from "../src/files/safetensorsWriter.js";
import {
  evaluateModel,
  loadGenerator,
  type QuantizationConfig,
  Trainer,
  type TrainerConfig,
  type TrainingArgumentsInput,
} from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyConfig } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

const NF4: QuantizationConfig = { load_in_4bit: true, bnb_4bit_quant_type: "nf4", bnb_4bit_use_double_quant: true };

async function train(output_dir: string, args: TrainingArgumentsInput, more: Partial<TrainerConfig>) {
  const lines: string[] = [];
  await new Trainer(tinyConfig(output_dir, args, { log: (line) => lines.push(line), ...more })).train();
  const { log_history } = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  const losses = (log_history as { loss?: number }[]).flatMap(({ loss }) => loss ?? []);
  return { lines, losses, adapter: readFileSync(join(output_dir, "adapter_model.safetensors")) };
}

describe("the loss curve over 40 updates of the quickstart stays in a band around float32's", () => {
  const example = (path: string) => fileURLToPath(new URL(`../examples/quickstart/${path}`, import.meta.url));
  const curve = async (quantization?: QuantizationConfig) => {
    const args: TrainingArgumentsInput = {
      per_device_train_batch_size: 16,
      max_steps: 40,
      learning_rate: 2e-3,
      lr_scheduler_type: "cosine",
      warmup_steps: 5,
    };
    const [model, dataset] = [example("base-model"), example("data/train.jsonl")];
    return (await train(newFolder(), args, { model, dataset, quantization })).losses;
  };
  let plain: Promise<number[]> | undefined;

  // What 4 and 8 bits cost, not what differs from Python: that is in runs.golden.test.ts.
  it.each<[string, number, QuantizationConfig]>([
    ["nf4", 0.06, NF4],
    ["fp4", 0.08, { load_in_4bit: true }],
    ["int8", 0.005, { load_in_8bit: true }],
  ])("%s: each loss within a share of %f", { timeout: 120_000 }, async (_, band, quantization) => {
    plain ??= curve();
    const expected = await plain;
    const losses = await curve(quantization);
    expect(losses).toHaveLength(40);
    expect(losses.at(-1)).toBeLessThan(0.2 * losses[0]!);
    const apart = Math.max(...losses.map((loss, i) => Math.abs(loss / expected[i]! - 1)));
    expect(apart).toBeLessThan(band);
    expect(apart).toBeGreaterThan(1e-6);
  });
});

const LOAD = fileURLToPath(new URL("../dist/models/load.js", import.meta.url));

/** Loads a model in a process of its own; bytes that it took at most and in the end, beyond those before. */
const LOADER = `
  import { readFileSync, writeFileSync } from "node:fs";
  const { loadCausalLM } = await import(process.argv[1]);
  const kilobytes = (name) => Number.parseInt(readFileSync("/proc/self/status", "utf8").split(name + ":")[1]);
  const load = (folder) => loadCausalLM(folder, { quantization: { bits: 4, type: "nf4", double: true } });
  (await load(process.argv[3])).dispose(); // so that what is needed for any model is there
  writeFileSync("/proc/self/clear_refs", "5"); // the peak begins anew
  const before = kilobytes("VmRSS");
  await load(process.argv[2]);
  console.log(JSON.stringify({ peak: 1024 * (kilobytes("VmHWM") - before), end: 1024 * (kilobytes("VmRSS") - before) }));
  process.exit(); // the model is alive until here
`;

it.runIf(process.platform === "linux")(
  "a model in nf4 loads within 40 % of the memory of its bf16 weights",
  async () => {
    const folder = newFolder();
    cpSync(fixturePath("tiny-llama"), folder, { recursive: true });
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
    const [hidden, inner, layers] = [512, 1408, 12];
    const shape = { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: layers };
    const heads = { num_attention_heads: 8, num_key_value_heads: 8, head_dim: 64 };
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, ...shape, ...heads }));
    const entry = (name: string, ...size: number[]): TensorEntry => ({
      name: `${name}.weight`,
      dtype: "BF16",
      shape: size,
      data: async () => new Uint8Array(2 * size.reduce((a, b) => a * b)).fill(0x3c),
    });
    const layer = (path: string) => [
      ...["q", "k", "v", "o"].map((name) => entry(`${path}.self_attn.${name}_proj`, hidden, hidden)),
      ...["gate", "up"].map((name) => entry(`${path}.mlp.${name}_proj`, inner, hidden)),
      entry(`${path}.mlp.down_proj`, hidden, inner),
      ...["input_layernorm", "post_attention_layernorm"].map((name) => entry(`${path}.${name}`, hidden)),
    ];
    const outside = ["model.embed_tokens", "lm_head"].map((name) => entry(name, config.vocab_size, hidden));
    const weights = [
      ...outside,
      ...Array.from({ length: layers }, (_, i) => layer(`model.layers.${i}`)).flat(),
      entry("model.norm", hidden),
    ];
    await writeSafetensors(join(folder, "model.safetensors"), weights);
    const bytes = statSync(join(folder, "model.safetensors")).size;
    const script = ["--input-type=module", "-e", LOADER, LOAD, folder, fixturePath("tiny-llama")];
    const { peak, end } = JSON.parse(execFileSync(process.execPath, script, { encoding: "utf8" }));
    expect(bytes).toBeGreaterThan(75e6);
    expect(end).toBeGreaterThan(0.25 * bytes); // the codes are there
    expect(peak).toBeLessThan(0.4 * bytes);
  },
);

it("says what it does, and counts parameters as without quantization", async () => {
  const modelLine = (lines: string[]) => lines.find((line) => line.startsWith("Model"))!.replace(/.*tiny-llama:/, "");
  const plain = await train(newFolder(), { max_steps: 1 }, {});
  const { lines } = await train(newFolder(), { max_steps: 1 }, { quantization: NF4 });
  expect(modelLine(lines)).toBe(modelLine(plain.lines));
  expect(lines.join("\n")).toContain("linear layers in 4 bits (nf4, double quantization)");
});

describe("a resumed run", () => {
  const args: TrainingArgumentsInput = { max_steps: 8, save_strategy: "steps", save_steps: 4 };
  const lora = { ...TINY_LORA, lora_dropout: 0.1 };

  it("ends with the bytes of one that was never interrupted", async () => {
    const [whole, again] = [newFolder(), newFolder()];
    const expected = await train(whole, args, { lora, quantization: NF4 });
    cpSync(join(whole, "checkpoint-4"), join(again, "checkpoint-4"), { recursive: true });
    const actual = await train(again, { ...args, resume_from_checkpoint: true }, { lora, quantization: NF4 });
    expect(actual.adapter.equals(expected.adapter)).toBe(true);
  });

  it("is refused with another quantization", async () => {
    const folder = newFolder();
    await train(folder, args, { lora, quantization: NF4 });
    rmSync(join(folder, "checkpoint-8"), { recursive: true });
    for (const quantization of [undefined, { load_in_8bit: true }, { ...NF4, bnb_4bit_use_double_quant: false }]) {
      const resumed = train(folder, { ...args, resume_from_checkpoint: true }, { lora, quantization });
      await expect(resumed).rejects.toThrow(/checkpoint-4 cannot be continued: .*another quantization/);
    }
  });
});

it("an adapter works over the quantized base that it was trained on, and over the full one", async () => {
  const adapter = newFolder();
  const { losses } = await train(adapter, { num_train_epochs: 6 }, { quantization: NF4 });
  const [model, dataset] = [fixturePath("tiny-llama"), fixturePath("data/prompt-completion.jsonl")];
  const loss = async (quantization?: QuantizationConfig) =>
    (await evaluateModel({ model, adapter, dataset, quantization, log: () => {} })).eval_loss!;
  const [same, full] = [await loss(NF4), await loss()];
  expect(same).not.toBe(full);
  expect(same).toBeLessThan(losses[0]! / 2);
  expect(full).toBeLessThan(losses[0]! / 2);

  const generator = await loadGenerator({ model, adapter, quantization: NF4 });
  const [answer] = await generator.complete(["Ada took"], { max_new_tokens: 5 });
  generator.dispose();
  expect(answer).not.toBe("");
});

describe("contradictions are refused before anything is loaded", () => {
  const nowhere = join(newFolder(), "no-such-model");
  it.each<[string, Partial<TrainerConfig>, TrainingArgumentsInput, RegExp]>([
    [
      "with full fine-tuning",
      { lora: undefined, quantization: NF4 },
      {},
      /quantization.load_in_4bit: quantized weights cannot be trained.*Add `lora`/,
    ],
    ["in 4 and in 8 bits", { quantization: { ...NF4, load_in_8bit: true } }, {}, /load_in_8bit: load_in_4bit is true/],
    [
      "a compute dtype that the run has not",
      { quantization: { ...NF4, bnb_4bit_compute_dtype: "bfloat16" } },
      {},
      /bnb_4bit_compute_dtype: bfloat16 goes with training_args.bf16: true/,
    ],
    ["float16", { quantization: { ...NF4, bnb_4bit_compute_dtype: "float16" } }, {}, /goes with training_args.fp16/],
    [
      "4-bit options for 8 bits",
      { quantization: { ...NF4, load_in_4bit: false, load_in_8bit: true } },
      {},
      /belongs to/,
    ],
  ])("%s", async (_, more, args, message) => {
    await expect(train(newFolder(), args, { ...more, model: nowhere })).rejects.toThrow(message);
  });

  it("but a switch that is off is no quantization", async () => {
    const { lines } = await train(newFolder(), { max_steps: 1 }, { quantization: { ...NF4, load_in_4bit: false } });
    expect(lines.join("\n")).not.toContain("4 bits");
  });
});

it("a weight that is not finite is refused, naming the model", async () => {
  const folder = newFolder();
  cpSync(fixturePath("tiny-llama"), folder, { recursive: true });
  const path = join(folder, "model.safetensors");
  const bytes = readFileSync(path);
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
  const [begin] = header["model.layers.1.mlp.up_proj.weight"].data_offsets;
  bytes.writeFloatLE(Number.NaN, 8 + Number(bytes.readBigUInt64LE()) + begin + 400);
  writeFileSync(path, bytes);
  const run = train(newFolder(), { max_steps: 1 }, { model: folder, quantization: NF4 });
  await expect(run).rejects.toThrow(/quantization: .*quantize_4bit.*not finite/s);
});
