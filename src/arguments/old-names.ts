import type { FieldName } from "./table.js";

/** What becomes of a value that was given under a name that transformers 5 no longer has. */
export type Conversion =
  | { as: FieldName; value: unknown }
  /** It changes nothing here; completes "X is no longer an argument: ...". */
  | { ignored: string }
  /** It cannot be had; completes "X is no longer an argument: ...". */
  | { refused: string };

export interface OldName {
  /** The name to use now, or null when there is none; for docs and editors. */
  readonly now: FieldName | null;
  readonly help: string;
  readonly convert: (value: unknown) => Conversion;
}

const renamed = (now: FieldName): OldName => ({
  now,
  help: `Renamed: use ${now}.`,
  convert: (value) => ({ as: now, value }),
});

/** Gone without successor: `harmless` values change nothing, any other is refused with `instead`. */
const gone = (instead: string, harmless: (value: unknown) => boolean): OldName => ({
  now: null,
  help: `Removed: ${instead}.`,
  convert: (value) => (harmless(value) ? { ignored: "it changes nothing here" } : { refused: instead }),
});

const always = (why: string): OldName => ({
  now: null,
  help: `Removed: ${why}.`,
  convert: () => ({ ignored: why }),
});

const off = (value: unknown) => value === false || value === null || value === "" || value === 0 || value === "auto";
const FP16_ONLY = "it chose an implementation of fp16; there is one way now";

/** Names of transformers 4 and of older TRL that version 5 (TRL 1) renamed or removed. */
export const OLD_NAMES: Readonly<Record<string, OldName>> = {
  warmup_ratio: {
    now: "warmup_steps",
    help: "Renamed: use warmup_steps with a value below 1.",
    convert: (value) =>
      typeof value === "number" && value >= 1
        ? { refused: "use warmup_steps: below 1 it is a share of the updates, from 1 on their number" }
        : { as: "warmup_steps", value },
  },
  group_by_length: {
    now: "train_sampling_strategy",
    help: "Replaced: use train_sampling_strategy: group_by_length.",
    convert: (value) => ({ as: "train_sampling_strategy", value: toggled(value, "group_by_length", "random") }),
  },
  evaluation_strategy: renamed("eval_strategy"),
  no_cuda: renamed("use_cpu"),
  use_mps_device: always("the device is found by itself; use_cpu: true keeps a run on the CPU"),
  per_gpu_train_batch_size: renamed("per_device_train_batch_size"),
  per_gpu_eval_batch_size: renamed("per_device_eval_batch_size"),
  max_seq_length: renamed("max_length"),
  adafactor: {
    now: "optim",
    help: "Replaced: use optim: adafactor.",
    convert: (value) =>
      value === false
        ? { ignored: "optim names the optimizer" }
        : { as: "optim", value: toggled(value, "adafactor", "") },
  },
  overwrite_output_dir: gone("put it beside training_args: there true moves an earlier run aside", off),
  save_safetensors: gone(
    "weights are always saved as safetensors; remove it",
    (value) => value === true || value === null,
  ),
  logging_dir: always("TensorBoard files go to output_dir/runs; for another folder set TENSORBOARD_LOGGING_DIR"),
  include_inputs_for_metrics: {
    now: "include_for_metrics",
    help: 'Replaced: use include_for_metrics: ["inputs"].',
    convert: (value) => ({ as: "include_for_metrics", value: toggled(value, ["inputs"], []) }),
  },
  include_tokens_per_second: gone("use include_num_input_tokens_seen, which also adds the tokens per second", off),
  push_to_hub_model_id: renamed("hub_model_id"),
  push_to_hub_organization: gone('use hub_model_id with "organization/name"', off),
  push_to_hub_token: renamed("hub_token"),
  fp16_backend: always(FP16_ONLY),
  half_precision_backend: always(FP16_ONLY),
  fp16_opt_level: always(FP16_ONLY),
  fsdp_min_num_params: gone("use fsdp_config", off),
  fsdp_transformer_layer_cls_to_wrap: gone("use fsdp_config", off),
  torchdynamo: gone("use torch_compile_backend", off),
  jit_mode_eval: gone("TorchScript is Python's; remove it", off),
  tpu_num_cores: gone("TPUs are not supported; remove it", off),
  tpu_metrics_debug: gone("TPUs are not supported; remove it", off),
  use_ipex: gone("it switched on a Python library of Intel's; remove it", off),
  past_index: gone("models that carry a state between batches are not supported; remove it", (v) => off(v) || v === -1),
  use_legacy_prediction_loop: gone("there is one way to evaluate; remove it", off),
  mp_parameters: gone("SageMaker's model parallelism is not supported; remove it", off),
  ray_scope: always("hyper-parameter search with Ray does not exist here"),
  _n_gpu: always("devices are counted by slimtune"),
};

/** `value` of a switch as what it stands for now; anything but a boolean is passed on, to be refused by name. */
const toggled = (value: unknown, on: unknown, otherwise: unknown) =>
  typeof value === "boolean" ? (value ? on : otherwise) : value;

/** Values of today's arguments that transformers 5 or TRL 1 renamed or dropped, and what to write instead. */
export const OLD_VALUES: Readonly<Partial<Record<FieldName, Record<string, string>>>> = {
  optim: { adamw_hf: "adamw_torch", adamw_apex_fused: "adamw_torch_fused" },
  packing_strategy: { "bfd-requeue": "bfd_split", ffd: "bfd" },
};
