import { homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { UserError } from "../support/errors.js";
import { TrainingArguments, type TrainingArgumentsInput } from "./arguments.js";
import { FIELDS, fieldNames, fieldOf } from "./table.js";

/** Values of any type, as YAML or plain JavaScript may bring them. */
const make = (input: Record<string, unknown>) => new TrainingArguments(input as TrainingArgumentsInput);

describe("TrainingArguments", () => {
  it("has every field, with its default", () => {
    const args = new TrainingArguments();
    for (const name of fieldNames) expect(args[name], name).toEqual(FIELDS[name].default);
    expect(args.nonDefault()).toEqual({});
    expect(args.notes).toEqual([]);
  });

  it("takes the snippet of the tutorials as it is", () => {
    const snippet = {
      output_dir: "./slm-finetuned-model",
      per_device_train_batch_size: 2,
      gradient_accumulation_steps: 8,
      num_train_epochs: 3,
      optim: "paged_adamw_32bit",
      bf16: true,
      logging_steps: 10,
      save_strategy: "epoch",
      learning_rate: 2e-4,
      max_grad_norm: 0.3,
    } as const;
    const args = new TrainingArguments(snippet);
    expect(args).toMatchObject(snippet);
    const { num_train_epochs: _, ...changed } = snippet; // 3 is the default
    expect(args.nonDefault()).toEqual(changed);
  });

  it("shares no list with the table", () => {
    const args = new TrainingArguments();
    (args.include_for_metrics as string[]).push("loss");
    expect(new TrainingArguments().include_for_metrics).toEqual([]);
  });

  it("treats undefined as not given", () => {
    expect(new TrainingArguments({ max_steps: undefined }).max_steps).toBe(-1);
  });

  it("masks the token of the hub wherever settings are shown", () => {
    const args = new TrainingArguments({ hub_token: "hf_secret" });
    expect(args.nonDefault()).toEqual({ hub_token: "<HUB_TOKEN>" });
    expect(JSON.stringify(args)).not.toContain("hf_secret");
  });

  it.each<[Record<string, unknown>, Record<string, unknown>]>([
    [{ output_dir: null }, { output_dir: "trainer_output" }],
    [{ output_dir: "~/runs" }, { output_dir: join(homedir(), "runs") }],
    [{ resume_from_checkpoint: false }, { resume_from_checkpoint: null }],
    [{ resume_from_checkpoint: true }, { resume_from_checkpoint: true }],
    [{ save_total_limit: 0 }, { save_total_limit: null }],
    [{ report_to: [] }, { report_to: "none" }],
    [{ include_num_input_tokens_seen: false }, { include_num_input_tokens_seen: "no" }],
    [{ max_length: null }, { max_length: null }],
    [{ warmup_steps: 0.03 }, { warmup_steps: 0.03 }],
    [{ logging_nan_inf_filter: false }, { logging_nan_inf_filter: false }],
    [{ report_to: ["tensorboard", "mlflow"] }, { report_to: ["tensorboard", "mlflow"] }],
    [{ report_to: "all" }, { report_to: "all" }],
    [{ lr_scheduler_type: "constant_with_warmup" }, { lr_scheduler_type: "constant_with_warmup" }],
    [{ eval_strategy: "steps" }, { eval_steps: 500, metric_for_best_model: null, greater_is_better: null }],
    [{ eval_strategy: "steps", eval_steps: 0, logging_steps: 0.1 }, { eval_steps: 0.1 }],
    [{ eval_strategy: "epoch" }, { eval_steps: null }],
    [
      { eval_strategy: "epoch", save_strategy: "epoch", load_best_model_at_end: true },
      { metric_for_best_model: "loss", greater_is_better: false },
    ],
    [{ metric_for_best_model: "eval_mean_token_accuracy" }, { greater_is_better: true }],
    [{ metric_for_best_model: "my_loss" }, { greater_is_better: false }],
    [{ metric_for_best_model: "perplexity", greater_is_better: false }, { greater_is_better: false }],
    [
      { eval_strategy: "steps", lr_scheduler_type: "reduce_lr_on_plateau" },
      { metric_for_best_model: "loss", greater_is_better: false },
    ],
  ])("%j becomes %j", (input, expected) => expect(make(input)).toMatchObject(expected));
});

describe("wrong arguments", () => {
  it.each<[Record<string, unknown>, RegExp]>([
    [{ learning_rat: 1 }, /learning_rat: unknown argument \(did you mean "learning_rate"\?\)/],
    [{ learningRate: 1 }, /did you mean "learning_rate"/],
    [
      { learning_rate: "2e-4" },
      /learning_rate: expected a number of at least 0, got "2e-4" \(write 0.0002, without quotes\)/,
    ],
    [{ learning_rate: -1 }, /expected a number of at least 0, got -1/],
    [{ learning_rate: Number.NaN }, /got NaN/],
    [{ per_device_train_batch_size: 0 }, /expected a whole number of at least 1, got 0/],
    [{ per_device_train_batch_size: 1.5 }, /expected a whole number/],
    [{ max_steps: null }, /max_steps: expected a whole number of at least -1, got null/],
    [{ bf16: "True" }, /bf16: expected true or false, got "True" \(write true, without quotes\)/],
    [{ bf16: 1 }, /bf16: expected true or false, got 1/],
    [{ max_length: "None" }, /write null, without quotes/],
    [{ save_strategy: "epochs" }, /expected one of no, steps, epoch, best, got "epochs" \(did you mean "epoch"\?\)/],
    [{ optim: "adamw" }, /optim: expected one of adamw_torch,/],
    [{ optim: "adamw_hf" }, /optim: "adamw_hf" no longer exists; use "adamw_torch"/],
    [{ adam_beta1: 1 }, /below 1/],
    [{ num_train_epochs: 0 }, /above 0/],
    [{ seed: -1 }, /seed: expected a whole number of at least 0 and of at most 4294967295/],
    [{ logging_steps: 0 }, /logging_steps: must not be 0 with logging_strategy steps/],
    [{ logging_steps: 2.5 }, /logging_steps: expected a whole number of updates, or a share/],
    [{ save_steps: 10.5 }, /save_steps: expected a whole number of updates/],
    [{ eval_strategy: "steps", eval_steps: 2.5 }, /eval_steps: expected a whole number of updates, or a share/],
    [
      { eval_strategy: "steps", logging_strategy: "no", logging_steps: 0 },
      /eval_steps: must not be 0 with eval_strategy steps/,
    ],
    [{ lr_scheduler_type: "greedy" }, /lr_scheduler_type: greedy follows an evaluation metric: set eval_strategy/],
    [{ lr_scheduler_type: "reduce_lr_on_plateau" }, /reduce_lr_on_plateau follows an evaluation metric/],
    [{ save_strategy: "best", metric_for_best_model: "loss" }, /save_strategy: best needs evaluations/],
    [{ save_strategy: "best", eval_strategy: "epoch" }, /save_strategy: best needs metric_for_best_model/],
    [{ load_best_model_at_end: true }, /load_best_model_at_end: .*eval_strategy is no and save_strategy steps/],
    [
      { load_best_model_at_end: true, eval_strategy: "epoch" },
      /eval_strategy is epoch and save_strategy steps; make them equal, or set save_strategy to best/,
    ],
    [
      { load_best_model_at_end: true, eval_strategy: "steps", eval_steps: 4, save_steps: 6 },
      /save_steps 6 is no multiple of eval_steps 4/,
    ],
    [
      { load_best_model_at_end: true, eval_strategy: "steps", eval_steps: 0.1, save_steps: 10 },
      /no multiple of eval_steps 0.1 \(one is a share of all updates, the other a number\)/,
    ],
    [
      { load_best_model_at_end: true, eval_strategy: "steps", eval_steps: 0.2, save_steps: 0.3 },
      /save_steps 0.3 is no multiple of eval_steps 0.2/,
    ],
    [{ dataloader_prefetch_factor: 2 }, /dataloader_prefetch_factor: needs dataloader_num_workers above 0/],
    [{ lr_scheduler_kwargs: { num_cycles: 1 } }, /lr_scheduler_kwargs: unknown parameter "num_cycles".*linear/],
    [{ bf16: true, fp16: true }, /fp16 and bf16 exclude each other; keep one of them/],
    [{ bf16_full_eval: true, fp16_full_eval: true }, /exclude each other/],
    [{ __proto__: null, constructor: 1 }, /constructor: unknown argument/],
  ])("%j: %s", (input, message) => {
    expect(() => make(input)).toThrow(UserError);
    expect(() => make(input)).toThrow(message);
  });

  it("are all named at once", () => {
    expect(() => make({ max_step: 1, bf16: 3, torch_compile: true })).toThrow(
      /max_step: .*\n.*bf16: expected.*\n.*torch_compile: true: torch.compile is Python's/s,
    );
  });

  it("lets the best model be found where every checkpoint is evaluated", () => {
    const best = { load_best_model_at_end: true, eval_strategy: "steps" };
    expect(make({ ...best, eval_steps: 2, save_steps: 6 }).save_steps).toBe(6);
    expect(make({ ...best, eval_steps: 0.1, save_steps: 0.3 }).save_steps).toBe(0.3);
    expect(make({ ...best, eval_steps: 3, save_strategy: "best" }).eval_steps).toBe(3);
  });

  it("only matter for the strategy that reads them", () => {
    expect(make({ logging_strategy: "epoch", logging_steps: 0 }).logging_steps).toBe(0);
    expect(make({ save_strategy: "no", save_steps: 2.5 }).save_steps).toBe(2.5);
  });
});

describe("fates", () => {
  it.each<[Record<string, unknown>, RegExp]>([
    [{ optim: "galore_adamw" }, /optim: "galore_adamw": not built; use one of adamw_torch/],
    [{ optim_args: "rank=2" }, /optim_args: unknown parameter "rank"; it takes none \(optim adamw_torch_fused\)/],
    [{ optim: "paged_adamw_32bit", optim_args: "page_budget=x" }, /optim_args: page_budget is .x./],
    [{ train_sampling_strategy: "batch_rebalance" }, /one device and no padding; use random, or group_by_length/],
    [
      { report_to: "wandb" },
      /Weights & Biases has no client for JavaScript that is kept up.*use tensorboard or mlflow/,
    ],
    [{ report_to: ["tensorboard", "comet_ml"] }, /comet_ml has no client here/],
    [{ report_to: "tensorbord" }, /there is no tracker "tensorbord"; names are none, all, tensorboard, mlflow/],
    [{ deepspeed: "ds.json" }, /DeepSpeed is a Python library/],
    [{ packing: true, max_length: null }, /packing: needs max_length/],
    [{ eval_packing: true, max_length: null }, /eval_packing: needs max_length/],
    [{ packing: true, truncation_mode: "keep_end" }, /packing: keeps the start of an example that is too long/],
    [{ gradient_checkpointing_kwargs: { offload: true } }, /offload is true: what is kept stays on the device/],
    [{ gradient_checkpointing_kwargs: { every_n_layer: 2 } }, /"every_n_layer" .did you mean "every_n_layers"/],
    [{ gradient_checkpointing_kwargs: '{"every_n_layers": 0}' }, /every_n_layers is 0: expected a whole number/],
    [{ gradient_checkpointing_kwargs: "[1" }, /gradient_checkpointing_kwargs: not a mapping or its JSON text/],
    [{ loss_type: "dft" }, /not built yet/],
    [{ label_names: ["y"] }, /always called "labels"/],
    [{ local_rank: 1 }, /data parallelism is not built yet/],
  ])("%j is refused: %s", (input, message) => expect(() => make(input)).toThrow(message));

  it("refuses every refused field at a value of its type that is not the default", () => {
    // Where none of the candidates below differs from the default and has the type.
    const other: Record<string, unknown> = {
      debug: "underflow_overflow",
      skip_memory_metrics: false,
      torch_empty_cache_steps: 4,
    };
    for (const name of fieldNames.filter((name) => fieldOf(name)!.fate === "refused")) {
      const { schema, default: value } = fieldOf(name)!;
      const candidate = other[name] ?? [true, "x", { a: 1 }].find((value) => schema.safeParse(value).success);
      expect(candidate, name).not.toEqual(value);
      expect(() => make({ [name]: candidate }), name).toThrow(fieldOf(name)!.why);
    }
  });

  it("notes arguments without effect, unless they say what is so anyway", () => {
    expect(make({ dataloader_pin_memory: false }).notes).toEqual([
      expect.stringMatching(/^dataloader_pin_memory has no effect: /),
    ]);
    expect(make({ dataloader_pin_memory: true, label_names: null }).notes).toEqual([]);
  });
});

describe("old names", () => {
  it.each<[Record<string, unknown>, Record<string, unknown>]>([
    [{ warmup_ratio: 0.1 }, { warmup_steps: 0.1 }],
    [{ no_cuda: true }, { use_cpu: true }],
    [{ per_gpu_train_batch_size: 4 }, { per_device_train_batch_size: 4 }],
    [{ max_seq_length: 512 }, { max_length: 512 }],
    [{ evaluation_strategy: "no" }, { eval_strategy: "no" }],
    [{ group_by_length: false }, { train_sampling_strategy: "random" }],
    [{ group_by_length: true }, { train_sampling_strategy: "group_by_length" }],
    [{ adafactor: true }, { optim: "adafactor" }],
    [{ include_inputs_for_metrics: true }, { include_for_metrics: ["inputs"] }],
  ])("%j is taken as %j, with a note", (input, expected) => {
    const args = make(input);
    expect(args).toMatchObject(expected);
    expect(args.notes[0]).toMatch(
      new RegExp(`^${Object.keys(input)[0]} is an old name: taken as ${Object.keys(expected)[0]}`),
    );
  });

  it.each(["logging_dir", "use_mps_device", "fp16_backend", "adafactor", "overwrite_output_dir"])(
    "%s: false changes nothing, with a note",
    (name) => {
      const args = make({ [name]: false });
      expect(args.nonDefault()).toEqual({});
      expect(args.notes).toEqual([expect.stringContaining(`${name} is no longer an argument`)]);
    },
  );

  it.each<[Record<string, unknown>, RegExp]>([
    [{ warmup_ratio: 1 }, /warmup_ratio: is no longer an argument: use warmup_steps/],
    [{ warmup_ratio: "a lot" }, /warmup_ratio: as warmup_steps, expected a number/],
    [{ overwrite_output_dir: true }, /put it beside training_args/],
    [{ save_safetensors: false }, /always saved as safetensors/],
    [{ include_tokens_per_second: true }, /use include_num_input_tokens_seen/],
    [{ push_to_hub_organization: "me" }, /use hub_model_id/],
    [{ no_cuda: true, use_cpu: false }, /use_cpu: no_cuda and use_cpu are the same argument; give use_cpu only/],
  ])("%j is refused: %s", (input, message) => expect(() => make(input)).toThrow(message));
});
