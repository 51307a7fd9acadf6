// Generated from src/arguments by scripts/generate-docs.mjs; do not edit.
// biome-ignore-all format: generated text

export interface TrainingArgumentsFields {
  // Length of the run
  /** Passes over the training set. A fraction cuts the last pass short. Ignored when max_steps is above 0. Default: 3. */
  num_train_epochs: number;
  /** Optimizer updates in total; overrides num_train_epochs and starts the data again as often as needed. -1 or 0: not set. Default: -1. */
  max_steps: number;
  // Batches and memory
  /** Examples that go through the model at once on one device. The main lever on memory. Default: 8. */
  per_device_train_batch_size: number;
  /** Batches whose gradients are added up before one optimizer update; the loss is normalised over all of them together. Default: 1. */
  gradient_accumulation_steps: number;
  /** Try again with a smaller batch when memory runs out. Refused: not built yet; set per_device_train_batch_size to what fits and raise gradient_accumulation_steps in turn. Default: false. */
  auto_find_batch_size: boolean;
  /** Keep only the input of each layer and compute the layer again in the backward pass: less memory, more time, the same gradients. Norms, activations and the probabilities of attention are never kept, with it or without. Default: false. */
  gradient_checkpointing: boolean;
  /** Options of gradient_checkpointing: every_n_layers (only one layer of so many is computed again), use_reentrant (taken, and means nothing here). Default: null. */
  gradient_checkpointing_kwargs: Record<string, unknown> | string | null;
  /** Keep activations in host memory between the forward and the backward pass. Refused: not built yet; to save memory lower per_device_train_batch_size and raise gradient_accumulation_steps. Default: false. */
  activation_offloading: boolean;
  /** Give cached device memory back to the driver every so many updates. Refused: not built yet; remove it. Default: null. */
  torch_empty_cache_steps: number | null;
  /** Python's switch for the model's key-value cache while training. No effect: training never keeps a key-value cache. Default: false. */
  use_cache: boolean;
  /** Weight of the load-balancing loss of mixture-of-experts models. No effect: it acts on mixture-of-experts models only, and none of these is supported. Default: 0.001. */
  router_aux_loss_coef: number;
  // Learning rate
  /** The peak of the schedule. Default: 0.00005. */
  learning_rate: number;
  /** The curve of the learning rate after warm-up. constant has no warm-up; constant_with_warmup has. reduce_lr_on_plateau and greedy have none either: they follow metric_for_best_model at each evaluation. Default: "linear". */
  lr_scheduler_type: "linear" | "cosine" | "cosine_with_restarts" | "polynomial" | "constant" | "constant_with_warmup" | "inverse_sqrt" | "reduce_lr_on_plateau" | "cosine_with_min_lr" | "cosine_warmup_with_min_lr" | "warmup_stable_decay" | "greedy";
  /** Parameters of the curve, for instance {num_cycles: 2} for cosine_with_restarts or {min_lr_rate: 0.1} for cosine_with_min_lr. Default: null. */
  lr_scheduler_kwargs: Record<string, unknown> | string | null;
  /** Updates in which the learning rate rises from 0 to its peak; below 1, a share of all updates. Default: 0. */
  warmup_steps: number;
  // Optimizer
  /** The optimizer. 8-bit ones keep their states in a quarter of the memory; paged ones keep them in pages that move to disk when memory runs short, or beyond optim_args' page_budget. Which one when: docs/optimizers.md. Only: adamw_torch, adamw_torch_fused, adafactor, ademamix, sgd, adagrad, adamw_bnb_8bit, adamw_8bit, ademamix_8bit, lion_8bit, lion_32bit, paged_adamw_32bit, paged_adamw_8bit, paged_ademamix_32bit, paged_ademamix_8bit, paged_lion_32bit, paged_lion_8bit, rmsprop, rmsprop_bnb, rmsprop_bnb_8bit, rmsprop_bnb_32bit. Default: "adamw_torch_fused". */
  optim: "adamw_torch" | "adamw_torch_fused" | "adamw_torch_xla" | "adamw_torch_npu_fused" | "adafactor" | "adamw_anyprecision" | "adamw_torch_4bit" | "adamw_torch_8bit" | "ademamix" | "sgd" | "adagrad" | "adamw_bnb_8bit" | "adamw_8bit" | "ademamix_8bit" | "lion_8bit" | "lion_32bit" | "paged_adamw_32bit" | "paged_adamw_8bit" | "paged_ademamix_32bit" | "paged_ademamix_8bit" | "paged_lion_32bit" | "paged_lion_8bit" | "rmsprop" | "rmsprop_bnb" | "rmsprop_bnb_8bit" | "rmsprop_bnb_32bit" | "galore_adamw" | "galore_adamw_8bit" | "galore_adafactor" | "galore_adamw_layerwise" | "galore_adamw_8bit_layerwise" | "galore_adafactor_layerwise" | "lomo" | "adalomo" | "grokadamw" | "schedule_free_radam" | "schedule_free_adamw" | "schedule_free_sgd" | "apollo_adamw" | "apollo_adamw_layerwise" | "stable_adamw";
  /** Extra arguments of the optimizer, as "name=value,name=value". sgd: momentum, dampening, nesterov. rmsprop: alpha, eps, momentum, centered. rmsprop_bnb: alpha, eps. adagrad: lr_decay, eps. ademamix: beta1, beta2, beta3, alpha, eps, t_alpha, t_beta3. Paged ones: page_budget, how much of their states stays in memory, such as page_budget=64MiB. Default: null. */
  optim_args: string | null;
  /** Modules that a low-rank optimizer projects. Refused: it belongs to the GaLore and APOLLO optimizers, which are not built; remove it. Default: null. */
  optim_target_modules: string | string[] | null;
  /** Weight decay: of sgd, rmsprop and adagrad a part of the gradient, else decoupled from it. Biases and the weights of norms are never decayed. Default: 0. */
  weight_decay: number;
  /** Decay of the running mean of the gradients, of AdamW, Lion and AdEMAMix. Default: 0.9. */
  adam_beta1: number;
  /** Decay of the running mean of the squared gradients, of AdamW and AdEMAMix; of Lion, of the mean that it keeps. Default: 0.999. */
  adam_beta2: number;
  /** Added to the denominator of an update, of AdamW and AdEMAMix. Default: 1e-8. */
  adam_epsilon: number;
  /** Gradients are scaled down so that their norm over all trained weights is at most this. 0: no clipping (grad_norm is still logged). Default: 1. */
  max_grad_norm: number;
  // Loss
  /** Compute the loss on the completion only. null: yes for prompt/completion data, the whole text otherwise. Default: null. */
  completion_only_loss: boolean | null;
  /** Compute the loss on the assistant's turns only; needs conversations and a chat template that marks these turns. Default: false. */
  assistant_only_loss: boolean;
  /** TRL's choice of loss: the cross-entropy at once (nll), in pieces (chunked_nll), or dynamic fine-tuning (dft). No effect: nll and chunked_nll are the same mathematics, and slimtune chooses the way to compute it. Default: null. */
  loss_type: "nll" | "dft" | "chunked_nll" | null;
  /** Share of the target spread evenly over the vocabulary, against overconfidence: 0.1 is usual. The loss that is logged includes it and is higher for that. Default: 0. */
  label_smoothing_factor: number;
  /** Strength of the noise that NEFTune adds to the embeddings while training: 5 is usual. It may help chat models on small datasets; the training loss rises a little. Default: null. */
  neftune_noise_alpha: number | null;
  // Precision
  /** Train in bfloat16, with arithmetic as the device allows. Not together with fp16. Default: false. */
  bf16: boolean;
  /** Train in float16 with a dynamic loss scale, with arithmetic as the device allows: bf16 is safer where both can be had. Not together with bf16. Default: false. */
  fp16: boolean;
  /** Round all weights to bfloat16 for an evaluation outside of a run (npx slimtune eval). During a run, as in the Trainer, it changes nothing. Default: false. */
  bf16_full_eval: boolean;
  /** Round all weights to float16 for an evaluation outside of a run (npx slimtune eval). During a run, as in the Trainer, it changes nothing. Default: false. */
  fp16_full_eval: boolean;
  /** Let an NVIDIA GPU compute float32 products of matrices in TensorFloat-32: faster, with a fraction of 10 bits. null and false: full float32. Refused on the CPU, which has none. Default: null. */
  tf32: boolean | null;
  /** Compile with torch.compile. Refused: torch.compile is Python's compiler; remove it, slimtune's kernels are compiled already. Default: false. */
  torch_compile: boolean;
  /** Backend of torch.compile. Refused: torch.compile is Python's compiler; remove it, slimtune's kernels are compiled already. Default: null. */
  torch_compile_backend: string | null;
  /** Mode of torch.compile. Refused: torch.compile is Python's compiler; remove it, slimtune's kernels are compiled already. Default: null. */
  torch_compile_mode: string | null;
  /** Use Liger's Triton kernels. Refused: Liger's kernels are Python code; remove it. Default: false. */
  use_liger_kernel: boolean;
  /** Which Liger kernels to use. Refused: Liger's kernels are Python code; remove it. Default: null. */
  liger_kernel_config: Record<string, unknown> | string | null;
  // Data
  /** Tokens of an example at most; longer ones are cut, and the run says how many. null: never cut. Shorter saves memory and time. With packing: tokens of a packed row. Default: 1024. */
  max_length: number | null;
  /** Which end of an example stays when it is cut to max_length. Packing always keeps the start. Default: "keep_start". */
  truncation_mode: "keep_start" | "keep_end";
  /** Column of plain-text examples. Default: "text". */
  dataset_text_field: string;
  /** Token that ends a sequence. null: the tokenizer's own. Default: null. */
  eos_token: string | null;
  /** Token that fills short rows of a batch. No effect: padding is masked, so the token that fills it changes nothing. Default: null. */
  pad_token: string | null;
  /** Pad batches to a multiple of this length. No padding is computed here: it is counted (total_flos, num_input_tokens_seen), and decides where dropout and NEFTune draw, so that a curve equals Python's. Default: null. */
  pad_to_multiple_of: number | null;
  /** Put several short examples into one row of at most max_length tokens; they never see each other. An update then holds more examples: fewer updates per epoch, so look at learning_rate and num_train_epochs again. Default: false. */
  packing: boolean;
  /** How packing fills rows. bfd: examples stay whole, and what exceeds max_length is cut off; bfd_split: what exceeds it becomes an example of its own; wrapped: rows are filled to the end, wherever that cuts (unlike in Python, pieces still never see their neighbours). Default: "bfd". */
  packing_strategy: "bfd" | "bfd_split" | "wrapped";
  /** Join the examples of a batch into one row without padding, as bfd packing does anyway. No padding is computed here in any case: it only decides where dropout and NEFTune draw, so that a curve equals Python's. Default: false. */
  padding_free: boolean;
  /** Whether to pack the evaluation set. null: as packing. Default: null. */
  eval_packing: boolean | null;
  /** Shuffle the examples once with seed, before packing (and the packed rows once more). For packing and for train_sampling_strategy sequential; random shuffles every epoch anyway. Default: false. */
  shuffle_dataset: boolean;
  /** Order of the examples: random (shuffled anew each epoch), sequential (as in the dataset), or group_by_length (shuffled, but examples of about the same length in one update; the longest comes first, so that memory runs out at once or not at all). Only: random, sequential, group_by_length. Default: "random". */
  train_sampling_strategy: "random" | "sequential" | "group_by_length" | "batch_rebalance";
  /** Column that holds the length of each example. No effect: group_by_length counts the tokens; so does TRL, whose dataset has lost this column by then. Default: "length". */
  length_column_name: string;
  /** Leave out the last batch of an epoch when it is not full. Default: false. */
  dataloader_drop_last: boolean;
  /** Threads that tokenise the dataset. 0: none beside the main one. The examples are the same with any number; worth it from some hundred thousand examples on. Default: 0. */
  dataloader_num_workers: number;
  /** As dataloader_num_workers: the larger of the two counts. Default: null. */
  dataset_num_proc: number | null;
  /** Put batches into page-locked memory. No effect: it is about the speed of Python's data loader only; here all examples are tokenised before the first update, and a batch is made of them in microseconds. Default: true. */
  dataloader_pin_memory: boolean;
  /** Keep the worker processes between epochs. No effect: it is about the speed of Python's data loader only; here all examples are tokenised before the first update, and a batch is made of them in microseconds. Default: false. */
  dataloader_persistent_workers: boolean;
  /** Batches that each worker prepares in advance. No effect: it is about the speed of Python's data loader only; here all examples are tokenised before the first update, and a batch is made of them in microseconds. Default: null. */
  dataloader_prefetch_factor: number | null;
  /** How Python starts worker processes. No effect: it is about the speed of Python's data loader only; here all examples are tokenised before the first update, and a batch is made of them in microseconds. Default: null. */
  dataloader_multiprocessing_context: string | null;
  /** Deliver batches in order although workers race. No effect: it is about the speed of Python's data loader only; here all examples are tokenised before the first update, and a batch is made of them in microseconds. Default: true. */
  dataloader_in_order: boolean;
  /** Drop dataset columns that the model does not take. No effect: columns that make up no tokens never reach the model. Default: true. */
  remove_unused_columns: boolean;
  /** Names of the label columns. No effect: the labels of a causal language model are always called labels. Default: null. */
  label_names: string[] | null;
  /** Options of TRL's dataset preparation. Refused: its one key, skip_prepare_dataset, has no meaning here: the dataset is always tokenised by slimtune; remove it. Default: null. */
  dataset_kwargs: Record<string, unknown> | string | null;
  /** Chat template to use instead of the model's. Refused: not built yet; put the template into the model folder as chat_template.jinja. Default: null. */
  chat_template_path: string | null;
  /** Arguments for loading the model in Python. Refused: these are arguments of Python's from_pretrained; name the model under `model` and the precision with bf16. Default: null. */
  model_init_kwargs: Record<string, unknown> | string | null;
  /** Run Python code that comes with a model. Refused: slimtune never runs code that comes with a model; remove it. Default: false. */
  trust_remote_code: boolean;
  // Logging
  /** Log never, every logging_steps updates, or after each epoch. Default: "steps". */
  logging_strategy: "no" | "steps" | "epoch";
  /** Updates between two log entries; below 1, a share of all updates. Short runs want a small value, such as 10. Default: 500. */
  logging_steps: number;
  /** Also log the first update. Default: false. */
  logging_first_step: boolean;
  /** In Python, replace NaN and infinite losses in the log by the mean of the others. No effect: a loss that is NaN or infinite is caught before it reaches the weights or the log; the config's health.non_finite says what happens then. Default: true. */
  logging_nan_inf_filter: boolean;
  /** No live progress bar: plain lines, as when the output is piped. null: a bar on a terminal. Default: null. */
  disable_tqdm: boolean | null;
  /** Count the tokens of the run in each log entry, with train_tokens_per_second: all (or true) counts the padding that Python would compute too, non_padding the tokens alone. Default: "no". */
  include_num_input_tokens_seen: "no" | "all" | "non_padding" | boolean;
  /** Experiment trackers to report to: tensorboard, mlflow, a list of them, all or none. metrics.jsonl in output_dir is always written. Default: "none". */
  report_to: string | string[] | null;
  /** Name of the run in MLflow. Default: null. */
  run_name: string | null;
  /** Name of the project in Trackio. No effect: it belongs to the tracker Trackio, which has no client here (report_to). Default: "huggingface". */
  project: string;
  /** Space of the Trackio tracker. No effect: it belongs to the tracker Trackio, which has no client here (report_to). Default: null. */
  trackio_space_id: string | null;
  /** Bucket of the Trackio tracker. No effect: it belongs to the tracker Trackio, which has no client here (report_to). Default: null. */
  trackio_bucket_id: string | null;
  /** Static space of the Trackio tracker. No effect: it belongs to the tracker Trackio, which has no client here (report_to). Default: null. */
  trackio_static_space_id: string | boolean | null;
  /** Level of Python's logger. No effect: it sets the level of Python's logger; slimtune prints its summary, its notes and the log entries always. Default: "passive". */
  log_level: "passive" | "debug" | "info" | "warning" | "error" | "critical" | "detail";
  /** Level of Python's logger on other processes. No effect: a run is one process on one machine. Default: "warning". */
  log_level_replica: "passive" | "debug" | "info" | "warning" | "error" | "critical" | "detail";
  /** Log on each machine of a run. No effect: a run is one process on one machine. Default: true. */
  log_on_each_node: boolean;
  /** Leave memory metrics out of the results. Refused: memory metrics are not built yet; leave it at true. Default: true. */
  skip_memory_metrics: boolean;
  /** Python's debugging aids. Refused: Python's debugging aids do not exist here; remove it (a NaN or infinite loss stops the run anyway). Default: "". */
  debug: string | string[];
  // Evaluation
  /** Evaluate never, every eval_steps updates (and after the last one), or after each epoch. Default: "no". */
  eval_strategy: "no" | "steps" | "epoch";
  /** Updates between two evaluations; below 1, a share of all updates. null or 0: as logging_steps. Default: null. */
  eval_steps: number | null;
  /** Updates (with eval_strategy steps) or epochs (with epoch) before the first evaluation. Default: 0. */
  eval_delay: number;
  /** Evaluate once before the first update: the number that training has to beat. Default: false. */
  eval_on_start: boolean;
  /** Examples evaluated at once on one device. It changes speed and memory only: eval_loss is weighted by tokens. Default: 8. */
  per_device_eval_batch_size: number;
  /** Compute only eval_loss and eval_perplexity: no accuracy, no entropy, and computeMetrics is not called. Default: false. */
  prediction_loss_only: boolean;
  /** End with the weights of the checkpoint that evaluated best. Needs save_strategy: best, or one equal to eval_strategy. Default: false. */
  load_best_model_at_end: boolean;
  /** The metric that says which checkpoint is best: loss, mean_token_accuracy, or one of your own, with or without eval_. null: loss, where one is needed. Default: null. */
  metric_for_best_model: string | null;
  /** Whether a larger metric_for_best_model is better. null: yes, unless its name ends in "loss". Default: null. */
  greater_is_better: boolean | null;
  /** Batches after which predictions move to host memory. No effect: logits are never kept: a prediction is one token id, which is in host memory at once. Default: null. */
  eval_accumulation_steps: number | null;
  /** Join the predictions of all batches. No effect: a metric function gets a list of examples, without padding and without batches. Default: true. */
  eval_do_concat_batches: boolean;
  /** Gather nested predictions from all devices. No effect: a run is one process on one machine. Default: false. */
  eval_use_gather_object: boolean;
  /** What a metric function gets besides predictions and labels: "inputs", "loss". No effect: a metric function always gets the inputs and the loss of every token. Default: []. */
  include_for_metrics: string[];
  /** Call the metric function batch by batch. No effect: predictions are token ids and need little memory, so that a metric function gets all examples at once. Default: false. */
  batch_eval_metrics: boolean;
  // Output and checkpoints
  /** Folder for checkpoints and the final model or adapter, relative to the current folder. Default: "trainer_output". */
  output_dir: string;
  /** Write checkpoints never, every save_steps updates (and at the end), after each epoch, or after each evaluation that is the best so far. Default: "steps". */
  save_strategy: "no" | "steps" | "epoch" | "best";
  /** Updates between two checkpoints; below 1, a share of all updates. Default: 500. */
  save_steps: number;
  /** Checkpoints to keep; older ones are deleted, but never the newest or the best. null or 0: all. Default: null. */
  save_total_limit: number | null;
  /** Leave optimizer and random state out of checkpoints: smaller, but a run cannot resume from them. Default: false. */
  save_only_model: boolean;
  /** Take up a run again: true for the newest checkpoint in output_dir, or the path of one. Default: null. */
  resume_from_checkpoint: string | boolean | null;
  /** When resuming, start the data afresh instead of where the run stopped. Refused: slimtune always resumes at the exact place in the data; remove it. Default: false. */
  ignore_data_skip: boolean;
  /** When resuming, restore the state of callbacks too. No effect: a resumed run always takes up the state of its callbacks, to end as if it had never stopped. Default: false. */
  restore_callback_states_from_checkpoint: boolean;
  /** Save on each machine of a run. No effect: a run is one process on one machine. Default: false. */
  save_on_each_node: boolean;
  /** Save a checkpoint when the process is asked to end. No effect: SIGTERM and Ctrl-C always finish the step and save a checkpoint. Default: false. */
  enable_jit_checkpoint: boolean;
  // Devices and repeatability
  /** Start of the random numbers for initial weights, dropout and the order of examples. Default: 42. */
  seed: number;
  /** Seed for the order of examples alone. null: seed. Default: null. */
  data_seed: number | null;
  /** Compute on the CPU even where there is a GPU. Otherwise a run takes the first NVIDIA GPU that `npx slimtune doctor` lists; CUDA_VISIBLE_DEVICES chooses another. Default: false. */
  use_cpu: boolean;
  /** Use only kernels that give the same bits every time, and stop at one that cannot. A run on the CPU repeats without it, with the same seed and number of threads. Default: false. */
  full_determinism: boolean;
  /** Normalise the loss by the tokens of all devices together. No effect: a run is one process on one device; data parallelism is not built yet. Default: true. */
  average_tokens_across_devices: boolean;
  /** Number of this process on its machine, given by a launcher. No effect: a run is one process on one device; data parallelism is not built yet. Default: -1. */
  local_rank: number;
  /** Communication library of data parallelism. No effect: a run is one process on one device; data parallelism is not built yet. Default: null. */
  ddp_backend: string | null;
  /** Seconds that a process waits for the others. No effect: a run is one process on one device; data parallelism is not built yet. Default: 1800. */
  ddp_timeout: number;
  /** Look for weights without a gradient. No effect: a run is one process on one device; data parallelism is not built yet. Default: null. */
  ddp_find_unused_parameters: boolean | null;
  /** Size of the pieces in which gradients are exchanged, in MB. No effect: a run is one process on one device; data parallelism is not built yet. Default: null. */
  ddp_bucket_cap_mb: number | null;
  /** Send buffers from the first process to the others. No effect: a run is one process on one device; data parallelism is not built yet. Default: null. */
  ddp_broadcast_buffers: boolean | null;
  /** Promise that every step uses the same weights. No effect: a run is one process on one device; data parallelism is not built yet. Default: null. */
  ddp_static_graph: boolean | null;
  /** Shard the model over devices with FSDP. Refused: sharded training is not built yet; remove it. Default: null. */
  fsdp: string | null;
  /** Options of FSDP. Refused: sharded training is not built yet; remove it. Default: null. */
  fsdp_config: Record<string, unknown> | string | null;
  /** Configuration of DeepSpeed. Refused: DeepSpeed is a Python library that slimtune does not use; remove it. Default: null. */
  deepspeed: Record<string, unknown> | string | null;
  /** Configuration of Accelerate. Refused: Accelerate is a Python library that slimtune does not use; remove it. Default: null. */
  accelerator_config: Record<string, unknown> | string | null;
  /** Parallelism of Accelerate. Refused: Accelerate is a Python library that slimtune does not use; remove it. Default: null. */
  parallelism_config: Record<string, unknown> | string | null;
  // Hub and scripts
  /** Upload the result to the Hub. Refused: not built yet; upload output_dir afterwards with Hugging Face's own tools. Default: false. */
  push_to_hub: boolean;
  /** Repository to upload to. No effect: nothing is uploaded in this version (push_to_hub must be false). Default: null. */
  hub_model_id: string | null;
  /** Access token of the Hub. No effect: nothing is uploaded in this version (push_to_hub must be false). Default: null. */
  hub_token: string | null;
  /** Make the repository private. No effect: nothing is uploaded in this version (push_to_hub must be false). Default: null. */
  hub_private_repo: boolean | null;
  /** What to upload and when. No effect: nothing is uploaded in this version (push_to_hub must be false). Default: "every_save". */
  hub_strategy: "end" | "every_save" | "checkpoint" | "all_checkpoints";
  /** Upload even while another upload runs. No effect: nothing is uploaded in this version (push_to_hub must be false). Default: false. */
  hub_always_push: boolean;
  /** Branch to upload to. No effect: nothing is uploaded in this version (push_to_hub must be false). Default: null. */
  hub_revision: string | null;
  /** Train, in a script. No effect: it steers Python's example scripts only; npx slimtune train always trains. Default: false. */
  do_train: boolean;
  /** Evaluate, in a script. Refused: it steers Python's example scripts only; remove it. eval_strategy evaluates during a run, npx slimtune eval by itself. Default: false. */
  do_eval: boolean;
  /** Predict, in a script. Refused: prediction is not built yet; remove it, or use npx slimtune generate. Default: false. */
  do_predict: boolean;
}

/** Names of older versions that are still understood. */
export interface OldArguments {
  /** @deprecated Renamed: use warmup_steps with a value below 1. */
  warmup_ratio?: unknown;
  /** @deprecated Replaced: use train_sampling_strategy: group_by_length. */
  group_by_length?: unknown;
  /** @deprecated Renamed: use eval_strategy. */
  evaluation_strategy?: unknown;
  /** @deprecated Renamed: use use_cpu. */
  no_cuda?: unknown;
  /** @deprecated Removed: the device is found by itself; use_cpu: true keeps a run on the CPU. */
  use_mps_device?: unknown;
  /** @deprecated Renamed: use per_device_train_batch_size. */
  per_gpu_train_batch_size?: unknown;
  /** @deprecated Renamed: use per_device_eval_batch_size. */
  per_gpu_eval_batch_size?: unknown;
  /** @deprecated Renamed: use max_length. */
  max_seq_length?: unknown;
  /** @deprecated Replaced: use optim: adafactor. */
  adafactor?: unknown;
  /** @deprecated Removed: put it beside training_args: there true moves an earlier run aside. */
  overwrite_output_dir?: unknown;
  /** @deprecated Removed: weights are always saved as safetensors; remove it. */
  save_safetensors?: unknown;
  /** @deprecated Removed: TensorBoard files go to output_dir/runs; for another folder set TENSORBOARD_LOGGING_DIR. */
  logging_dir?: unknown;
  /** @deprecated Replaced: use include_for_metrics: ["inputs"]. */
  include_inputs_for_metrics?: unknown;
  /** @deprecated Removed: use include_num_input_tokens_seen, which also adds the tokens per second. */
  include_tokens_per_second?: unknown;
  /** @deprecated Renamed: use hub_model_id. */
  push_to_hub_model_id?: unknown;
  /** @deprecated Removed: use hub_model_id with "organization/name". */
  push_to_hub_organization?: unknown;
  /** @deprecated Renamed: use hub_token. */
  push_to_hub_token?: unknown;
  /** @deprecated Removed: it chose an implementation of fp16; there is one way now. */
  fp16_backend?: unknown;
  /** @deprecated Removed: it chose an implementation of fp16; there is one way now. */
  half_precision_backend?: unknown;
  /** @deprecated Removed: it chose an implementation of fp16; there is one way now. */
  fp16_opt_level?: unknown;
  /** @deprecated Removed: use fsdp_config. */
  fsdp_min_num_params?: unknown;
  /** @deprecated Removed: use fsdp_config. */
  fsdp_transformer_layer_cls_to_wrap?: unknown;
  /** @deprecated Removed: use torch_compile_backend. */
  torchdynamo?: unknown;
  /** @deprecated Removed: TorchScript is Python's; remove it. */
  jit_mode_eval?: unknown;
  /** @deprecated Removed: TPUs are not supported; remove it. */
  tpu_num_cores?: unknown;
  /** @deprecated Removed: TPUs are not supported; remove it. */
  tpu_metrics_debug?: unknown;
  /** @deprecated Removed: it switched on a Python library of Intel's; remove it. */
  use_ipex?: unknown;
  /** @deprecated Removed: models that carry a state between batches are not supported; remove it. */
  past_index?: unknown;
  /** @deprecated Removed: there is one way to evaluate; remove it. */
  use_legacy_prediction_loop?: unknown;
  /** @deprecated Removed: SageMaker's model parallelism is not supported; remove it. */
  mp_parameters?: unknown;
  /** @deprecated Removed: hyper-parameter search with Ray does not exist here. */
  ray_scope?: unknown;
  /** @deprecated Removed: devices are counted by slimtune. */
  _n_gpu?: unknown;
}
