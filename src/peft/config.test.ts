import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fateOf, type LoraConfigInput, loraSchema } from "./config.js";
import { renderLoraDocs } from "./render.js";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
const python: Record<string, unknown> = JSON.parse(read("./fixtures/fields.json"))["peft 0.21 LoraConfig"];
const problem = (config: unknown) => JSON.stringify(loraSchema.safeParse(config).error?.issues ?? null);
// What a run says where PEFT leaves it open.
const OURS: Record<string, unknown> = { peft_type: "LORA" };

describe("LoraConfig", () => {
  it.each(Object.entries(python))("%s has a fate and Python's default %j", (name, value) => {
    expect(Object.keys(loraSchema.shape)).toContain(name);
    const given = OURS[name] ?? value;
    expect(loraSchema.safeParse({ [name]: given }).success).toBe(true);
    const fate = fateOf(name);
    if (fate.fate === "refused") {
      expect(fate.accepted).toEqual(given);
      expect(fate.why.length).toBeGreaterThan(10);
      expect(problem({ [name]: "something else" })).toContain(fate.why.slice(0, 20));
    } else {
      expect((loraSchema.parse({}) as Record<string, unknown>)[name] ?? null).toEqual(
        name === "fan_in_fan_out" ? null : (given ?? null),
      );
    }
  });

  it("has no option that Python does not have, but LoRA+'s", () => {
    const others = Object.keys(loraSchema.shape).filter((name) => !Object.hasOwn(python, name));
    expect(others.sort()).toEqual(["loraplus_lr_embedding", "loraplus_lr_ratio"]);
  });

  it.each<[LoraConfigInput, string]>([
    [{ target_modules: "all-linear", layers_to_transform: [1] }, "needs a list of names in target_modules"],
    [{ target_modules: ".*q_proj", layers_pattern: "layers", layers_to_transform: 1 }, "needs a list of names"],
    [{ target_modules: ["q_proj"], layers_pattern: "layers" }, "layers_to_transform, which counts them, is missing"],
    [{ lora_bias: true, use_dora: true }, "does not go with use_dora"],
    [{ lora_bias: true, init_lora_weights: "pissa" }, "not with pissa"],
    [{ trainable_token_indices: [1, 1] }, "has a token twice"],
    [{ init_lora_weights: "eva" as never }, "eva is not built: it needs a pass over the data"],
    [{ init_lora_weights: "loftq" as never }, "loftq is not built"],
    [{ init_lora_weights: "pissa_niter_" as never }, "or pissa_niter_N, got"],
    [{ bias: "some" as never }, "none"],
  ])("refuses %j", (config, words) => {
    expect(problem(config)).toContain(words);
  });

  it("docs/lora-options.md is current (npm run build && node scripts/generate-docs.mjs)", () => {
    expect(read("../../docs/lora-options.md")).toBe(renderLoraDocs());
  });
});
