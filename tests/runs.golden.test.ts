/** Whole runs against transformers, PEFT and TRL: loss, gradient norm and learning rate at every update. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { flush, liveTensors } from "../src/torch/index.js";
import { expectSameCurve, readRunGolden, trainAs } from "./support/runGoldens.js";

const runs = [
  "snippet-lora",
  "snippet-lora-hot",
  "snippet-lora-fused",
  "snippet-lora-paged",
  "full-ft",
  "full-ft-tied",
  "max-steps-uneven",
  "max-steps-constant-warmup-ratio",
  "messages",
  "messages-assistant-only",
  "lora-dropout",
  "lora-dropout-head",
  "lora-dropout-head-tied",
  "data-seed",
  "drop-last",
  "fractional-epochs",
  "no-clip",
  "logging-steps-4",
  "sequential",
  "lora-patterns",
  "qlora-nf4",
  "qlora-nf4-double",
  "qlora-fp4-bf16-weights",
  "lora-int8",
];

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  await flush();
  expect(liveTensors()).toBe(0);
});

describe("whole runs follow Python's", () => {
  it.each(runs)("%s", async (name) => {
    const golden = readRunGolden(name);
    const output_dir = mkdtempSync(join(tmpdir(), "slimtune-run-"));
    folders.push(output_dir);
    expectSameCurve(await trainAs(golden, output_dir), golden);
  });
});
