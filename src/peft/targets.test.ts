import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { type LoraConfigInput, loraSchema } from "./config.js";
import { loraShapes } from "./shapes.js";
import { targetPaths } from "./targets.js";

const names = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
];
const layers = Array.from({ length: 12 }, (_, i) => i);
const paths = [...layers.flatMap((layer) => names.map((name) => `model.layers.${layer}.${name}`)), "lm_head"];

const llama = { linears: paths, head: "lm_head", embedding: "model.embed_tokens", defaults: ["q_proj", "v_proj"] };

const targets = (config: LoraConfigInput) => targetPaths(loraSchema.parse(config), llama);

describe("targetPaths", () => {
  it("defaults to q_proj and v_proj, as PEFT does for Llama", () => {
    expect(targets({})).toEqual(paths.filter((path) => /[qv]_proj$/.test(path)));
    expect(targets({ target_modules: null })).toEqual(targets({}));
  });

  it("takes all linear layers but the head for all-linear", () => {
    expect(targets({ target_modules: "all-linear" })).toEqual(paths.slice(0, -1));
  });

  it("matches a list by whole name or by ending after a dot, in the model's order", () => {
    expect(targets({ target_modules: ["v_proj", "q_proj"] })).toEqual(targets({}));
    expect(targets({ target_modules: ["1.mlp.up_proj"] })).toEqual(["model.layers.1.mlp.up_proj"]); // not layer 11
    expect(targets({ target_modules: ["model.layers.3.mlp.up_proj", "lm_head"] })).toEqual([
      "model.layers.3.mlp.up_proj",
      "lm_head",
    ]);
    expect(() => targets({ target_modules: ["proj"] })).toThrow(UserError);
  });

  it("matches a string as a regular expression of the whole path", () => {
    expect(targets({ target_modules: ".*\\.(0|11)\\..*down_proj" })).toEqual([
      "model.layers.0.mlp.down_proj",
      "model.layers.11.mlp.down_proj",
    ]);
    expect(() => targets({ target_modules: "q_proj" })).toThrow(
      'lora.target_modules: "q_proj" matches no linear layer',
    );
    expect(targets({ target_modules: "lm_head|model\\.layers\\.0\\.mlp\\.up_proj" })).toEqual([
      "model.layers.0.mlp.up_proj",
      "lm_head",
    ]);
  });

  it("leaves out exclude_modules, by the same rules", () => {
    expect(targets({ target_modules: ["q_proj"], exclude_modules: ["0.self_attn.q_proj"] })).toHaveLength(11);
    expect(targets({ target_modules: "all-linear", exclude_modules: ".*mlp.*" })).toHaveLength(12 * 4);
    expect(targets({ target_modules: ["q_proj", "k_proj"], exclude_modules: ".*k_proj" })).toHaveLength(12);
  });

  it("keeps to layers_to_transform", () => {
    expect(targets({ target_modules: ["q_proj", "v_proj"], layers_to_transform: [1, 3] })).toEqual([
      "model.layers.1.self_attn.q_proj",
      "model.layers.1.self_attn.v_proj",
      "model.layers.3.self_attn.q_proj",
      "model.layers.3.self_attn.v_proj",
    ]);
    expect(targets({ target_modules: ["q_proj"], layers_to_transform: 0 })).toEqual([
      "model.layers.0.self_attn.q_proj",
    ]);
    expect(() => targets({ target_modules: ["q_proj"], layers_to_transform: [99] })).toThrow(UserError);
  });

  it("counts layers by the first number in a path, or by the first after layers_pattern", () => {
    const experts = ["model.layers.1.mlp.experts.0.up", "model.layers.0.mlp.experts.1.up", "blocks.1.up"];
    const chosen = (config: LoraConfigInput) =>
      targetPaths(loraSchema.parse({ target_modules: ["up"], ...config }), { ...llama, linears: experts });
    expect(chosen({ layers_to_transform: 1 })).toEqual([experts[0]]); // something must stand before the list's name
    expect(chosen({ layers_to_transform: 1, layers_pattern: "experts" })).toEqual([experts[1]]);
    expect(chosen({ layers_to_transform: [1], layers_pattern: ["blocks", "layers"] })).toEqual([
      experts[0],
      experts[2],
    ]);
    expect(chosen({ layers_to_transform: [] })).toEqual(experts);
    expect(() => chosen({ layers_to_transform: 1, layers_pattern: "h" })).toThrow(UserError);
  });

  it("knows all-linear in any case, and needs names where PEFT has no default", () => {
    expect(targets({ target_modules: "ALL-linear" })).toEqual(targets({ target_modules: "all-linear" }));
    const unknown = { ...llama, defaults: undefined };
    expect(() => targetPaths(loraSchema.parse({}), unknown)).toThrow("PEFT has no default for this kind of model");
  });

  it("says what there is when nothing matches", () => {
    expect(() => targets({ target_modules: ["query"] })).toThrow(
      'lora.target_modules: ["query"] matches no linear layer of this model. Its layers are named q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head; name some of them in a list, or use "all-linear".',
    );
  });

  it("takes no longer for a pattern made to take for ever", () => {
    const begun = performance.now();
    expect(() => targets({ target_modules: "([a-z_.0-9]+)+x" })).toThrow("matches no linear layer");
    expect(() => targets({ target_modules: "all-linear", exclude_modules: "(.|.)*x" })).not.toThrow();
    expect(loraShapes(loraSchema.parse({ rank_pattern: { "(.+)+y": 4 } }))(paths[0]!).r).toBe(8);
    expect(performance.now() - begun).toBeLessThan(1000);
  });

  it.each([
    ["(?=model).*", "a look-ahead"],
    ["(?!model).*", "a look-ahead"],
    [".*(?<=q)_proj", "a look-behind"],
    [".*(?<!q)_proj", "a look-behind"],
    ["(.)\\1.*", "a back-reference"],
    ["(?P<x>.)(?P=x).*", "a back-reference"],
    ["(?>a).*", "a part without backtracking"],
    ["a*+", "a part without backtracking"],
  ])("refuses %s, which such patterns cannot have, by name", (rule, what) => {
    expect(() => targets({ target_modules: rule })).toThrow(`lora.target_modules: '${rule}' has ${what}, which`);
  });

  it("takes what Python's patterns have and JavaScript's have not", () => {
    expect(targets({ target_modules: "(?i).*\\.Q_PROJ" })).toHaveLength(12);
    expect(targets({ target_modules: "(?P<any>.*)\\.q_proj" })).toHaveLength(12);
  });

  it("names a broken regular expression", () => {
    expect(() => targets({ target_modules: "q_proj(" })).toThrow(
      "lora.target_modules: 'q_proj(' is not a valid regular expression",
    );
    expect(() => targets({ target_modules: "all-linear", exclude_modules: "[" })).toThrow("lora.exclude_modules: '['");
  });
});

describe("loraShapes", () => {
  const shape = (config: LoraConfigInput, path: string) => loraShapes(loraSchema.parse(config))(path);
  const q0 = "model.layers.0.self_attn.q_proj";

  it("scales by alpha / r, or alpha / √r", () => {
    expect(shape({ r: 16, lora_alpha: 32 }, q0)).toEqual({ r: 16, scaling: 2 });
    expect(shape({ r: 16, lora_alpha: 32, use_rslora: true }, q0)).toEqual({ r: 16, scaling: 8 });
  });

  it("names a broken pattern, and refuses more of them than there can be layers", () => {
    expect(() => shape({ rank_pattern: { "q(": 4 } }, q0)).toThrow("lora.rank_pattern: 'q(' is not a valid");
    const many = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`layer${i}`, 1]));
    expect(loraSchema.safeParse({ rank_pattern: many }).error?.issues[0]).toMatchObject({
      path: ["rank_pattern"],
      message: "has more than 10000 entries",
    });
  });

  it("takes rank and alpha of the first pattern that matches the path's end", () => {
    const config: LoraConfigInput = {
      r: 8,
      lora_alpha: 16,
      rank_pattern: { "layers.0.self_attn.q_proj": 4, q_proj: 2, "k_.*": 32 },
      alpha_pattern: { "(v|q)_proj": 64 },
    };
    expect(shape(config, q0)).toEqual({ r: 4, scaling: 16 });
    expect(shape(config, "model.layers.1.self_attn.q_proj")).toEqual({ r: 2, scaling: 32 });
    expect(shape(config, "model.layers.1.self_attn.k_proj")).toEqual({ r: 32, scaling: 0.5 });
    expect(shape(config, "model.layers.1.self_attn.v_proj")).toEqual({ r: 8, scaling: 8 });
    expect(shape(config, "model.layers.1.self_attn.xq_proj")).toEqual({ r: 8, scaling: 2 });
  });
});

describe("loraSchema", () => {
  it.each<[Record<string, unknown>, string]>([
    [{ r: 0 }, "r"],
    [{ r: 1.5 }, "r"],
    [{ lora_dropout: 1 }, "lora_dropout"],
    [{ lora_alpha: 0 }, "lora_alpha"],
    [{ lora_alpha: 1e308 }, "must be at most 1000000"],
    [{ alpha_pattern: { q_proj: 1e308 } }, "must be at most 1000000"],
    [{ target_modules: [] }, "target_modules"],
    [{ init_lora_weights: "corda" }, "corda is not built"],
    [{ layer_replication: [[0, 2]] }, "layers cannot be repeated"],
    [{ task_type: "SEQ_CLS" }, "task_type"],
    [{ lora_rank: 8 }, "lora_rank"],
  ])("refuses %j", (config, word) => {
    const { error } = loraSchema.safeParse(config);
    expect(JSON.stringify(error?.issues)).toContain(word);
  });

  it("takes the defaults of options that are not built, spelt out", () => {
    const spelt = {
      bias: "none",
      use_dora: false,
      modules_to_save: null,
      fan_in_fan_out: false,
      lora_bias: false,
    } as const;
    expect(targetPaths(loraSchema.parse({ ...spelt, task_type: "CAUSAL_LM" }), llama)).toEqual(targets({}));
  });
});
