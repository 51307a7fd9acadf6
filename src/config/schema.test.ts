import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fieldNames } from "../arguments/index.js";
import { configJsonSchema } from "./schema.js";

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
const schema = configJsonSchema() as any;

describe("the JSON Schema of the config file", () => {
  it("knows the keys of the file, and allows no other", () => {
    expect(Object.keys(schema.properties)).toEqual([
      ...[
        "$schema",
        "model",
        "adapter",
        "dataset",
        "eval_dataset",
        "eval_split",
        "max_samples",
        "health",
        "lora",
        "quantization",
        "device",
        "early_stopping",
        "overwrite_output_dir",
        "profile",
      ],
      "training_args",
    ]);
    expect(schema.required).toEqual(["model", "dataset"]);
    expect(schema.additionalProperties).toBe(false);
    expect(schema.properties.lora.properties.r).toMatchObject({ type: "integer", default: 8 });
  });

  it("is the file that the package ships (node scripts/generate-docs.mjs)", () => {
    const file = readFileSync(new URL("../../config.schema.json", import.meta.url), "utf8");
    expect(JSON.parse(file)).toEqual(JSON.parse(JSON.stringify(schema)));
  });

  it("has every training argument with its help, type and default, and none required", () => {
    const { properties, required, additionalProperties } = schema.properties.training_args;
    expect(required).toBeUndefined();
    expect(additionalProperties).toBe(false);
    for (const name of fieldNames) expect(properties[name].description.length, name).toBeGreaterThan(10);
    expect(properties.learning_rate).toMatchObject({ type: "number", minimum: 0, default: 5e-5 });
    expect(properties.save_strategy).toMatchObject({ enum: ["no", "steps", "epoch", "best"], default: "steps" });
    expect(properties.auto_find_batch_size.description).toContain("Refused: not built yet");
    expect(properties.warmup_ratio).toMatchObject({
      deprecated: true,
      description: expect.stringContaining("warmup_steps"),
    });
  });
});
