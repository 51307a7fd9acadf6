import { boolean, either, field, group, integer, mapping, oneOf, orNull, text, textList } from "./field.js";

const LOADER =
  "it is about the speed of Python's data loader only; here all examples are tokenised before the first update, and a " +
  "batch is made of them in microseconds";

export const data = group(
  "Data",
  "How examples become tokens and batches. These are the data options of TRL's SFTConfig and of the Trainer's data loader.",
  {
    max_length: field(orNull(integer({ min: 1 })), {
      default: 1024,
      fate: "honoured",
      help: "Tokens of an example at most; longer ones are cut, and the run says how many. null: never cut. Shorter saves memory and time. With packing: tokens of a packed row.",
    }),
    truncation_mode: field(oneOf(["keep_start", "keep_end"]), {
      default: "keep_start",
      fate: "honoured",
      help: "Which end of an example stays when it is cut to max_length. Packing always keeps the start.",
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
      fate: "honoured",
      help: "Pad batches to a multiple of this length. No padding is computed here: it is counted (total_flos, num_input_tokens_seen), and decides where dropout and NEFTune draw, so that a curve equals Python's.",
    }),
    packing: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Put several short examples into one row of at most max_length tokens; they never see each other. An update then holds more examples: fewer updates per epoch, so look at learning_rate and num_train_epochs again.",
    }),
    packing_strategy: field(oneOf(["bfd", "bfd_split", "wrapped"]), {
      default: "bfd",
      fate: "honoured",
      help: "How packing fills rows. bfd: examples stay whole, and what exceeds max_length is cut off; bfd_split: what exceeds it becomes an example of its own; wrapped: rows are filled to the end, wherever that cuts (unlike in Python, pieces still never see their neighbours).",
    }),
    padding_free: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Join the examples of a batch into one row without padding, as bfd packing does anyway. No padding is computed here in any case: it only decides where dropout and NEFTune draw, so that a curve equals Python's.",
    }),
    eval_packing: field(orNull(boolean()), {
      default: null,
      fate: "honoured",
      help: "Whether to pack the evaluation set. null: as packing.",
    }),
    shuffle_dataset: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Shuffle the examples once with seed, before packing (and the packed rows once more). For packing and for train_sampling_strategy sequential; random shuffles every epoch anyway.",
    }),
    train_sampling_strategy: field(oneOf(["random", "sequential", "group_by_length", "batch_rebalance"]), {
      default: "random",
      fate: "honoured",
      refuse: (value) =>
        value === "batch_rebalance"
          ? "it evens out padding and the work of several devices, and here is one device and no padding; use random, or group_by_length"
          : undefined,
      help: "Order of the examples: random (shuffled anew each epoch), sequential (as in the dataset), or group_by_length (shuffled, but examples of about the same length in one update; the longest comes first, so that memory runs out at once or not at all).",
    }),
    length_column_name: field(text(), {
      default: "length",
      fate: "no-effect",
      why: "group_by_length counts the tokens; so does TRL, whose dataset has lost this column by then",
      help: "Column that holds the length of each example.",
    }),
    dataloader_drop_last: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Leave out the last batch of an epoch when it is not full.",
    }),
    dataloader_num_workers: field(integer({ min: 0 }), {
      default: 0,
      fate: "honoured",
      help: "Threads that tokenise the dataset. 0: none beside the main one. The examples are the same with any number; worth it from some hundred thousand examples on.",
    }),
    dataset_num_proc: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "honoured",
      help: "As dataloader_num_workers: the larger of the two counts.",
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
