/**
 * Keys of other programs' configs (Axolotl, LLaMA-Factory, TRL's command line) at the top of a config, and training
 * arguments that stand there: taken where they mean the same, refused with what to write instead where they do not.
 */
import { fieldOf, OLD_NAMES } from "../arguments/index.js";
import { configKeys } from "./schema.js";

type Path = readonly [string, ...string[]];
type Mapping = Record<string, unknown>;

/** Exactly the same by another name. */
const RENAMED: Readonly<Record<string, Path>> = {
  base_model: ["model"],
  model_name_or_path: ["model"],
  adapter_name_or_path: ["adapter"],
  micro_batch_size: ["training_args", "per_device_train_batch_size"],
  eval_batch_size: ["training_args", "per_device_eval_batch_size"],
  num_epochs: ["training_args", "num_train_epochs"],
  optimizer: ["training_args", "optim"],
  lr_scheduler: ["training_args", "lr_scheduler_type"],
  early_stopping_patience: ["early_stopping", "patience"],
  val_set_size: ["eval_split"],
  val_size: ["eval_split"],
};

/** LoRA's options, flat. They are taken together, since each program has other defaults for those left out. */
const LORA: Readonly<Record<string, string>> = {
  lora_r: "r",
  lora_rank: "r",
  lora_alpha: "lora_alpha",
  lora_dropout: "lora_dropout",
  lora_target_modules: "target_modules",
  lora_target: "target_modules",
  lora_target_linear: "target_modules",
  use_rslora: "use_rslora",
};

const QLORA =
  "lora: {...} with quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true}";
const CHAT = "the model's own chat template is used; put another one into its folder as chat_template.jinja";
const FOUND = "it is found in the model's files; remove it";

/** Not the same, or not here; completes "is Axolotl's: ...". */
const AXOLOTL: Readonly<Record<string, string>> = {
  datasets:
    "write dataset: {path: ..., format: alpaca}, or a list of such; prompts and masks by `type` are not the same here",
  test_datasets: "write eval_dataset: {path: ...}",
  pretraining_dataset: "write dataset: {path: ..., format: text}",
  sequence_len: "write training_args.max_length, which cuts longer rows where Axolotl leaves them out",
  sample_packing: "write training_args.packing: true, which fills rows in another order",
  eval_sample_packing: "write training_args.eval_packing: true",
  pad_to_sequence_len: "nothing is padded here; remove it",
  train_on_inputs: "write training_args.completion_only_loss or assistant_only_loss",
  roles_to_train: "write training_args.assistant_only_loss: true",
  chat_template: CHAT,
  evals_per_epoch: "write training_args.eval_strategy: epoch, or steps with eval_steps below 1, a share of all updates",
  saves_per_epoch: "write training_args.save_strategy: epoch, or steps with save_steps below 1, a share of all updates",
  special_tokens: "write training_args.eos_token for the token that ends an answer; others are the model's own",
  dataset_prepared_path: "tokens are made anew in each run, in threads; remove it",
  flash_attention: "attention is fused always; remove it",
  flash_attn: "attention is fused always; remove it",
  xformers_attention: "attention is fused always; remove it",
  sdp_attention: "attention is fused always; remove it",
  model_type: FOUND,
  tokenizer_type: FOUND,
  lora_modules_to_save: "write lora.modules_to_save",
  wandb_project: "write training_args.report_to: tensorboard or mlflow",
  peft_use_dora: "write lora.use_dora: true",
};

/** Completes "is LLaMA-Factory's: ...". */
const LLAMA_FACTORY: Readonly<Record<string, string>> = {
  template: CHAT,
  dataset_dir: "write the path of the file itself: dataset: data/train.jsonl",
  cutoff_len:
    "write training_args.max_length, which cuts the end where LLaMA-Factory cuts prompt and answer in proportion",
  quantization_bit: `write ${QLORA}`,
  train_on_prompt: "write training_args.completion_only_loss: false",
  mask_history: "learning the last answer alone is not built; split the conversations",
  neat_packing: "write training_args.packing: true, in which rows never see each other",
  overwrite_cache: "tokens are made anew in each run; remove it",
  plot_loss: "write training_args.report_to: tensorboard; metrics.jsonl has all figures",
  preprocessing_num_workers: "write training_args.dataset_num_proc",
  additional_target: "write lora.modules_to_save",
  flash_attn: AXOLOTL.flash_attn!,
};

const isMapping = (value: unknown): value is Mapping =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Where an option of another program's goes, when it is the same by another name. */
export const renamedPath = (name: string): Path | undefined =>
  Object.hasOwn(RENAMED, name) ? RENAMED[name] : undefined;

/** What to write instead of another program's option; undefined where nobody has it. */
export function otherProgramsKey(name: string): string | undefined {
  if (Object.hasOwn(LORA, name)) return `write --lora.${LORA[name]}`;
  if (Object.hasOwn(AXOLOTL, name)) return `it is Axolotl's; ${AXOLOTL[name]}`;
  return Object.hasOwn(LLAMA_FACTORY, name) ? `it is LLaMA-Factory's; ${LLAMA_FACTORY[name]}` : undefined;
}

/** What a switch of the other programs says, and what becomes of it: nothing more to do, or what to write. */
const SWITCHES: Readonly<Record<string, (value: unknown) => string | undefined>> = {
  stage: (value) => (value === "sft" ? undefined : "only sft is built: learning from examples"),
  finetuning_type: (value) =>
    value === "lora" || value === "full" ? undefined : "lora and full are built; use one of them",
  use_peft: (value) => (typeof value === "boolean" ? undefined : "write lora: {...}"),
  load_in_4bit: (value) =>
    value === false
      ? undefined
      : "write quantization: {load_in_4bit: true}, with bnb_4bit_quant_type: nf4 and bnb_4bit_use_double_quant: true where the other program has them by default",
  load_in_8bit: (value) => (value === false ? undefined : "write quantization: {load_in_8bit: true}"),
};

export interface Taken {
  /** For the person: what was taken as what. */
  notes: string[];
  problems: { path: readonly string[]; message: string }[];
  /** The key in the file that a value of ours came from, by our path joined with dots. */
  origins: Map<string, readonly string[]>;
}

/** Puts what stands at the top of a config under other programs' names where it belongs, in place. */
export function takeAliases(data: Mapping): Taken {
  const taken: Taken = { notes: [], problems: [], origins: new Map() };
  const refuse = (key: string, message: string) => void taken.problems.push({ path: [key], message });
  takeLora(data, taken);
  const flat: string[] = [];
  for (const [key, value] of Object.entries(data)) {
    const renamed = Object.hasOwn(RENAMED, key) ? RENAMED[key] : undefined;
    const isArgument = fieldOf(key) !== undefined || Object.hasOwn(OLD_NAMES, key);
    if (configKeys.includes(key)) continue;
    const path: Path | undefined = renamed ?? (isArgument ? ["training_args", key] : undefined);
    if (path?.[0] === "eval_split" && value === 0) {
      delete data[key]; // nothing is held out
      continue;
    }
    if (path !== undefined) {
      const problem = put(data, path, value);
      if (problem !== undefined) {
        refuse(key, problem);
      } else {
        taken.origins.set(path.join("."), [key]);
        if (renamed === undefined) flat.push(key);
        else taken.notes.push(`${key} is another program's name: taken as ${path.join(".")}`);
      }
      delete data[key];
      continue;
    }
    const switched = Object.hasOwn(SWITCHES, key) ? SWITCHES[key] : undefined;
    const program = Object.hasOwn(AXOLOTL, key) ? "Axolotl" : "LLaMA-Factory";
    const instead =
      switched?.(value) ??
      (Object.hasOwn(AXOLOTL, key) ? AXOLOTL[key] : Object.hasOwn(LLAMA_FACTORY, key) ? LLAMA_FACTORY[key] : undefined);
    if (switched === undefined && instead === undefined) continue; // nobody's: the schema says so
    delete data[key];
    if (instead !== undefined) refuse(key, switched ? instead : `is ${program}'s: ${instead}`);
  }
  if (flat.length > 0) taken.notes.push(`Taken as training_args: ${flat.join(", ")}`);
  return taken;
}

/** Sets a value within `data`; a problem where there is one already. */
function put(data: Mapping, path: Path, value: unknown): string | undefined {
  const [first, inner] = path;
  if (inner === undefined) {
    if (data[first] !== undefined && data[first] !== null)
      return `is the same as ${first}, which is there too; keep one`;
    data[first] = value;
    return undefined;
  }
  data[first] ??= {};
  const holder = data[first];
  if (!isMapping(holder)) return `belongs under ${first}, which is ${JSON.stringify(holder)}`;
  if (Object.hasOwn(holder, inner)) return `is the same as ${path.join(".")}, which is there too; keep one`;
  holder[inner] = value;
  return undefined;
}

/** The switches that say LoRA, with what each program takes for the options that are left out. */
const LORA_SWITCHES: readonly { key: string; on: unknown; defaults: Mapping | undefined }[] = [
  { key: "adapter", on: "lora", defaults: undefined }, // Axolotl has none of its own
  { key: "finetuning_type", on: "lora", defaults: { r: 8, target_modules: "all-linear" } },
  { key: "use_peft", on: true, defaults: { r: 16, lora_alpha: 32, lora_dropout: 0.05, target_modules: null } },
];

/** The flat options of LoRA, and the switch that goes with them, as the section `lora`. */
function takeLora(data: Mapping, taken: Taken): void {
  const refuse = (key: string, message: string) => void taken.problems.push({ path: [key], message });
  if (data.adapter === "qlora") {
    refuse("adapter", `is Axolotl's: write ${QLORA}`);
    for (const key of ["adapter", "load_in_4bit", ...Object.keys(LORA)]) delete data[key];
    return;
  }
  const given = Object.keys(data).filter((key) => Object.hasOwn(LORA, key) && data[key] !== null);
  const asked = LORA_SWITCHES.find(({ key, on }) => data[key] === on);
  if (given.length === 0 && asked === undefined) return;
  if (asked?.key === "adapter") delete data.adapter;
  const options: Mapping = { ...asked?.defaults };
  for (const key of given) {
    const value = target(key, data[key]);
    if (value !== undefined) options[LORA[key]!] = value;
    taken.origins.set(`lora.${LORA[key]}`, [key]);
  }
  const twiceRank = asked?.key === "finetuning_type" && typeof options.r === "number" ? 2 * options.r : undefined;
  if (twiceRank !== undefined) options.lora_alpha ??= twiceRank; // LLaMA-Factory's default
  for (const key of Object.keys(LORA)) delete data[key];
  const problem = loraProblem(data, options);
  if (problem !== undefined) {
    refuse(given[0] ?? asked!.key, problem);
    return;
  }
  data.lora = options;
  taken.notes.push(`Taken as lora: ${JSON.stringify(options)}`);
}

function loraProblem(data: Mapping, options: Mapping): string | undefined {
  if (data.lora !== undefined) return "is an option of lora, which is there too; keep one";
  if (data.finetuning_type === "full" || data.use_peft === false) {
    return "is an option of LoRA, which is switched off: remove it, or write lora: {...}";
  }
  const missing = ["r", "lora_alpha", "target_modules"].filter((option) => options[option] === undefined);
  if (missing.length === 0) return undefined;
  const what = `${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"}`;
  return `write lora: {r: ..., lora_alpha: ..., target_modules: ...}; ${what} missing, and programs differ in what they take then`;
}

/** Layers as the programs write them: a list, a text with commas, `all`, or `lora_target_linear: true`. */
function target(key: string, value: unknown): unknown {
  if (key === "lora_target_linear") return value === true ? "all-linear" : undefined;
  if (LORA[key] !== "target_modules" || typeof value !== "string") return value;
  if (value === "all") return "all-linear";
  return value.includes(",") ? value.split(",").map((name) => name.trim()) : value;
}
