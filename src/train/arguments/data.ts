import { boolean, either, field, group, integer, mapping, oneOf, orNull, text, textList } from "./field.js";

const SPEED_ONLY = "it is about speed only: examples are tokenised once before the first update, in this process";
const LOADER = "it is about the speed of Python's data loader only; batches here are made in order, in this process";

export const data = group(
  "Data",
  "How examples become tokens and batches. These are the data options of TRL's SFTConfig and of the Trainer's data loader.",
  {
    max_length: field(orNull(integer({ min: 1 })), {
      default: 1024,
      fate: "honoured",
      help: "Tokens of an example at most; longer ones are cut, and the run says how many. null: never cut. Shorter saves memory and time.",
    }),
    truncation_mode: field(oneOf(["keep_start", "keep_end"]), {
      default: "keep_start",
      fate: "honoured",
      help: "Which end of an example stays when it is cut to max_length.",
    }),
    dataset_text_field: field(text(), {
      default: "text",
      fate: "honoured",
      help: "Column of plain-text examples.",
    }),
    eos_token: field(orNull(text()), {
      default: null,
      fate: "honoured",
      help: "Token that ends a sequence. null: the tokenizer's own.",
    }),
    pad_token: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: "padding is masked, so the token that fills it changes nothing",
      help: "Token that fills short rows of a batch.",
    }),
    pad_to_multiple_of: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "no-effect",
      why: "padding is masked, so its length changes nothing but time and memory",
      help: "Pad batches to a multiple of this length.",
    }),
    packing: field(boolean(), {
      default: false,
      fate: "refused",
      why: "not built yet; remove it",
      help: "Put several short examples into one row of max_length tokens.",
    }),
    packing_strategy: field(oneOf(["bfd", "bfd_split", "wrapped"]), {
      default: "bfd",
      fate: "no-effect",
      why: "it acts with packing only, which is not built yet",
      help: "How packing fills rows.",
    }),
    padding_free: field(boolean(), {
      default: false,
      fate: "refused",
      why: "not built yet; remove it",
      help: "Join the examples of a batch into one row without padding.",
    }),
    eval_packing: field(orNull(boolean()), {
      default: null,
      fate: "no-effect",
      why: "nothing is evaluated in this version",
      help: "Pack the evaluation set too.",
    }),
    shuffle_dataset: field(boolean(), {
      default: false,
      fate: "refused",
      why: "not built yet; train_sampling_strategy random shuffles every epoch anyway",
      help: "Shuffle the dataset once before anything else.",
    }),
    train_sampling_strategy: field(oneOf(["random", "sequential", "group_by_length", "batch_rebalance"]), {
      default: "random",
      fate: "honoured",
      refuse: (value) =>
        value === "group_by_length" || value === "batch_rebalance"
          ? "not built yet; use random or sequential"
          : undefined,
      help: "Order of the examples: shuffled anew each epoch, or as in the dataset.",
    }),
    length_column_name: field(text(), {
      default: "length",
      fate: "no-effect",
      why: "it acts with group_by_length only, which is not built yet",
      help: "Column that holds the length of each example.",
    }),
    dataloader_drop_last: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Leave out the last batch of an epoch when it is not full.",
    }),
    dataloader_num_workers: field(integer({ min: 0 }), {
      default: 0,
      fate: "no-effect",
      why: SPEED_ONLY,
      help: "Processes that prepare batches.",
    }),
    dataset_num_proc: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "no-effect",
      why: SPEED_ONLY,
      help: "Processes that tokenise the dataset.",
    }),
    dataloader_pin_memory: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: LOADER,
      help: "Put batches into page-locked memory.",
    }),
    dataloader_persistent_workers: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: LOADER,
      help: "Keep the worker processes between epochs.",
    }),
    dataloader_prefetch_factor: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "no-effect",
      why: LOADER,
      help: "Batches that each worker prepares in advance.",
    }),
    dataloader_multiprocessing_context: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: LOADER,
      help: "How Python starts worker processes.",
    }),
    dataloader_in_order: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: LOADER,
      help: "Deliver batches in order although workers race.",
    }),
    remove_unused_columns: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: "columns that make up no tokens never reach the model",
      help: "Drop dataset columns that the model does not take.",
    }),
    label_names: field(orNull(textList()), {
      default: null,
      fate: "no-effect",
      why: "the labels of a causal language model are always called labels",
      refuse: (names) =>
        names === null || (names.length === 1 && names[0] === "labels")
          ? undefined
          : 'the labels of a causal language model are always called "labels"; remove it',
      help: "Names of the label columns.",
    }),
    dataset_kwargs: field(orNull(either(mapping(), text())), {
      default: null,
      fate: "refused",
      why: "its one key, skip_prepare_dataset, has no meaning here: the dataset is always tokenised by slimtune; remove it",
      help: "Options of TRL's dataset preparation.",
    }),
    chat_template_path: field(orNull(text()), {
      default: null,
      fate: "refused",
      why: "not built yet; put the template into the model folder as chat_template.jinja",
      help: "Chat template to use instead of the model's.",
    }),
    model_init_kwargs: field(orNull(either(mapping(), text())), {
      default: null,
      fate: "refused",
      why: "these are arguments of Python's from_pretrained; name the model under `model` and the precision with bf16",
      help: "Arguments for loading the model in Python.",
    }),
    trust_remote_code: field(boolean(), {
      default: false,
      fate: "refused",
      why: "slimtune never runs code that comes with a model; remove it",
      help: "Run Python code that comes with a model.",
    }),
  },
);
