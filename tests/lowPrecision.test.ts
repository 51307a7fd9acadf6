/** Training in arithmetic of 16 bits, as on a GPU: any CPU can do it slowly. In float16 overflows come by themselves. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { writeSafetensors } from "../src/files/safetensorsWriter.js";
import type { TrainerCallback } from "../src/index.js";
import { loadCausalLM } from "../src/models/load.js";
import type * as precision from "../src/models/precision.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import type * as lossScaler from "../src/train/lossScaler.js";
import { fixturePath, readTensors } from "./support/goldens.js";
import { tinyTrainer } from "./support/tinyRun.js";

vi.mock("../src/models/precision.js", async (original) => {
  const actual = await original<typeof precision>();
  const precisionFor: typeof actual.precisionFor = ({ bf16, fp16 }) => {
    if (bf16) return { frozen: "bfloat16", compute: "bfloat16" };
    return fp16 ? { frozen: "float16", compute: "float16" } : actual.float32Precision;
  };
  return { ...actual, precisionFor };
});

let initialScale = 65536;
vi.mock("../src/train/lossScaler.js", async (original) => {
  const actual = await original<typeof lossScaler>();
  class LossScaler extends actual.LossScaler {
    override state = { scale: initialScale, growth: 0, overflows: 0, overflowsSinceLog: 0 };
  }
  return { ...actual, LossScaler };
});

const folders: string[] = [];
function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-fp16-"));
  folders.push(folder);
  return folder;
}

afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  initialScale = 65536;
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0);
});

const stateOf = (folder: string) => JSON.parse(readFileSync(join(folder, "trainer_state.json"), "utf8"));
type Entry = Record<string, number>;

it("loads a model whose every weight is trained", async () => {
  const model = await loadCausalLM(fixturePath("tiny-llama-fp16"), {
    precision: { frozen: "float16", compute: "float16" },
    trained: () => true,
  });
  await flush();
  model.dispose();
});

it.each([
  { name: "bf16", band: 0.02 }, // measured: 0.007
  { name: "fp16", band: 0.005 }, // 0.0012
])("$name stays within $band of float32's losses over 200 updates", async ({ name, band }) => {
  initialScale = 2 ** 12; // an update left out would be a difference of another kind
  const args = { learning_rate: 1e-3, max_steps: 200 };
  const [exact, low] = [makeFolder(), makeFolder()];
  await tinyTrainer(exact, args).train();
  await tinyTrainer(low, { ...args, [name]: true }).train();
  const [expected, actual] = [stateOf(exact).log_history as Entry[], stateOf(low).log_history as Entry[]];
  expect(actual).toHaveLength(201);
  let worst = 0;
  for (const [i, { loss }] of actual.slice(0, 200).entries()) {
    worst = Math.max(worst, Math.abs(loss! / expected[i]!.loss! - 1));
  }
  expect(worst).toBeLessThan(band);
  expect(worst).toBeGreaterThan(0);
});

it("fp16 leaves out updates until the scale fits", async () => {
  initialScale = 2 ** 22;
  const folder = makeFolder();
  const seen: (number | undefined)[] = [];
  const onStepEnd: TrainerCallback["onStepEnd"] = (_, __, ___, { overflows }) => void seen.push(overflows);
  await tinyTrainer(folder, { fp16: true }, { callbacks: [{ onStepEnd }] }).train();
  const entries = stateOf(folder).log_history as Entry[];
  const overflows = entries.at(-1)!.train_overflows!;
  expect(overflows).toBeGreaterThan(1);
  expect(overflows).toBeLessThan(11);
  expect(seen.at(-1)).toBe(overflows);
  expect(entries[0]).toMatchObject({ overflows: 1, loss_scale: 2 ** 21 });
  expect(entries.at(-2)!.loss_scale).toBe(2 ** 22 / 2 ** overflows);
  // nothing was learned as long as every update overflowed
  expect(entries.at(-2)!.loss).toBeLessThan(entries[0]!.loss! - 0.3);
});

it("goes on from a checkpoint to the same bytes, between two overflows too", async () => {
  initialScale = 2 ** 22;
  const [whole, parts] = [makeFolder(), makeFolder()];
  const args = { fp16: true, save_strategy: "steps", save_steps: 1, max_steps: 8, optim: "adamw_torch" } as const;
  await tinyTrainer(whole, args).train();
  cpSync(join(whole, "checkpoint-2"), join(parts, "checkpoint-2"), { recursive: true });
  initialScale = 65536; // what a resume that forgot the scale would take
  await tinyTrainer(parts, { ...args, resume_from_checkpoint: true }).train();
  for (const name of ["adapter_model.safetensors", "checkpoint-8/optimizer.safetensors"]) {
    expect(readFileSync(join(parts, name)).equals(readFileSync(join(whole, name))), name).toBe(true);
  }
  const figures = (folder: string) =>
    (stateOf(folder).log_history as Entry[]).map(({ loss, learning_rate, loss_scale, overflows }) => [
      loss,
      learning_rate,
      loss_scale,
      overflows,
    ]);
  expect(figures(parts)).toEqual(figures(whole));
});

it("hands gradients that are not finite at a scale of 1 to the health guard", async () => {
  initialScale = 1;
  const learning_rate = 1e30; // the second update's gradients are not finite with any scale
  const training = tinyTrainer(makeFolder(), { fp16: true, learning_rate, max_grad_norm: 0 }).train();
  await expect(training).rejects.toThrow(/Training stopped before update/);
});

it("refuses weights that float16 cannot hold", async () => {
  const folder = makeFolder();
  cpSync(fixturePath("tiny-llama"), folder, { recursive: true });
  const tensors = await readTensors(join(folder, "model.safetensors"));
  const name = "model.layers.1.mlp.up_proj.weight";
  tensors.get(name)!.values[5] = 70_000;
  await writeSafetensors(
    join(folder, "model.safetensors"),
    [...tensors].map(([key, { shape, values }]) => ({
      name: key,
      dtype: "F32" as const,
      shape,
      data: async () => new Uint8Array((values as Float32Array).buffer),
    })),
  );
  const loading = loadCausalLM(folder, { precision: { frozen: "float16", compute: "float32" } });
  await expect(loading).rejects.toThrow(`weight '${name}' has numbers that float16 cannot hold`);
});
