/** What a model makes lies where the model does, in training, evaluation, generation and across a resume. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { loadGenerator } from "../src/generate/index.js";
import type { TrainingArgumentsInput } from "../src/index.js";
import {
  chooseDevice,
  type Device,
  flush,
  liveTensors,
  noGrad,
  ops,
  rngState,
  scope,
  setRngState,
} from "../src/torch/index.js";
import { loadNative } from "../src/torch/native.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { PEAK_MEMORY, standInGpu } from "./support/standInGpu.js";
import { temporaryFolders } from "./support/temporary.js";
import { TINY_LORA, tinyTrainer } from "./support/tinyRun.js";

vi.mock("../src/torch/device.js", async (original) => ({
  ...(await original<object>()),
  chooseDevice: (useCpu: boolean) => (useCpu ? "cpu" : "cuda:0"),
}));

const newFolder = temporaryFolders();
beforeEach(() => void standInGpu());
afterEach(async () => {
  vi.restoreAllMocks();
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

/** The log of five updates with what draws random numbers on the device: dropout and NEFTune's noise. */
async function run(
  use_cpu: boolean,
  args: TrainingArgumentsInput = {},
  lora: typeof TINY_LORA | undefined = TINY_LORA,
) {
  const output_dir = newFolder();
  const trainer = tinyTrainer(
    output_dir,
    { use_cpu, max_steps: 5, neftune_noise_alpha: 5, eval_strategy: "steps", eval_steps: 5, ...args },
    { lora: lora && { ...lora, lora_dropout: 0.1 }, eval_dataset: fixturePath("data/prompt-completion.jsonl") },
  );
  const { metrics } = await trainer.train();
  const { log_history } = JSON.parse(readFileSync(join(output_dir, "trainer_state.json"), "utf8"));
  const losses = log_history.flatMap((entry: Record<string, number>) => entry.loss ?? entry.eval_loss ?? []);
  return { losses, metrics };
}

describe("a run on a GPU", () => {
  it.each([
    ["of an adapter", TINY_LORA],
    ["of all weights", undefined],
  ])("%s keeps its tensors together", async (_, lora) => {
    const { losses, metrics } = await run(false, {}, lora);
    expect(losses).toHaveLength(6);
    expect(metrics.train_peak_device_memory).toBe(PEAK_MEMORY);
    const cpu = await run(true, {}, lora);
    expect(losses).toEqual(cpu.losses); // the stand-in computes on the CPU
    expect(cpu.metrics).not.toHaveProperty("train_peak_device_memory");
  });

  it.each([
    ["paged_adamw_32bit", "page_budget=1MiB"],
    ["paged_adamw_32bit", null],
    ["paged_lion_8bit", null],
    ["adafactor", null],
  ] as const)("keeps the states of %s there, with %s", async (optim, optim_args) => {
    const args: TrainingArgumentsInput = { optim, optim_args, save_strategy: "steps", save_steps: 2 };
    const { losses } = await run(false, args, undefined);
    expect(losses).toEqual((await run(true, args, undefined)).losses);
  });

  it("computes in bfloat16 when it is asked for", async () => {
    const lines: string[] = [];
    const { losses } = await run(false, { bf16: true });
    expect(losses.every(Number.isFinite)).toBe(true);
    await tinyTrainer(
      newFolder(),
      { use_cpu: false, bf16: true, max_steps: 1 },
      { log: (line) => lines.push(line) },
    ).train();
    expect(lines.join("\n")).toMatch(/Device +cuda:0\nPrecision +bfloat16; trained weights float32/);
  });

  it("allows TensorFloat-32 when it is asked for, and says that the CPU has none", async () => {
    const setTf32 = vi.spyOn(loadNative(), "setTf32");
    await run(false, { tf32: true, max_steps: 1 });
    await run(false, { max_steps: 1 });
    expect(setTf32.mock.calls).toEqual([[true], [false]]);
    await expect(run(true, { tf32: true })).rejects.toThrow(/^tf32: true, but the run computes on the CPU/);
  });

  it("goes on from a checkpoint, with the GPU's generator as it was, and says when it goes on elsewhere", async () => {
    const output_dir = newFolder();
    const args = { use_cpu: false, save_strategy: "steps", save_steps: 3 } as const;
    await tinyTrainer(output_dir, { ...args, max_steps: 3 }).train();
    const { tensors } = await readHeader(join(output_dir, "checkpoint-3/rng_state.safetensors"));
    expect([...tensors.keys()].sort()).toEqual(["cpu", "cuda:0"]);
    expect(tensors.get("cuda:0")!.shape).toEqual([16]);

    vi.restoreAllMocks();
    standInGpu();
    const saved = await rngState("cuda:0");
    setRngState(new Uint8Array(16).fill(1), "cuda:0");
    const lines: string[] = [];
    const log = (line: string) => lines.push(line);
    await tinyTrainer(output_dir, { ...args, max_steps: 4, resume_from_checkpoint: true }, { log }).train();
    expect(await rngState("cuda:0")).toEqual(saved);
    expect(lines.join("\n")).not.toMatch("Resuming on");

    await tinyTrainer(
      output_dir,
      { ...args, use_cpu: true, max_steps: 5, resume_from_checkpoint: true },
      { log },
    ).train();
    expect(lines.join("\n")).toMatch("Resuming on cpu (was cuda:0)");
  });

  it("generates there", async () => {
    const generator = await loadGenerator({ model: fixturePath("tiny-llama") });
    const onCpu = await loadGenerator({ model: fixturePath("tiny-llama"), use_cpu: true });
    const options = { max_new_tokens: 6 };
    const prompts = ["one", "another one"];
    expect(await generator.complete(prompts, options)).toEqual(await onCpu.complete(prompts, options));
    generator.dispose();
    onCpu.dispose();
  });

  it("would fail for a tensor that was left behind", () => {
    const gpu = chooseDevice(false) as Device;
    expect(() => noGrad(() => scope(() => ops.add(ops.zeros([2], "float32", gpu), ops.zeros([2]))))).toThrow(
      "tensors of cuda:0 and cpu in one op",
    );
  });
});
