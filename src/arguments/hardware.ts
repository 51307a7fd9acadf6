import { boolean, either, field, group, integer, mapping, orNull, text } from "./field.js";

const ONE_PROCESS = "a run is one process on one device; data parallelism is not built yet";
const PYTHON = "is a Python library that slimtune does not use; remove it";

export const hardware = group("Devices and repeatability", "Where a run computes and what makes it repeat exactly.", {
  seed: field(integer({ min: 0, max: 2 ** 32 - 1 }), {
    default: 42,
    fate: "honoured",
    help: "Start of the random numbers for initial weights, dropout and the order of examples.",
  }),
  data_seed: field(orNull(integer({ min: 0 })), {
    default: null,
    fate: "honoured",
    help: "Seed for the order of examples alone. null: seed.",
  }),
  use_cpu: field(boolean(), {
    default: false,
    fate: "honoured",
    help: "Compute on the CPU even where there is a GPU. Otherwise a run takes the first NVIDIA GPU that `npx slimtune doctor` lists; CUDA_VISIBLE_DEVICES chooses another.",
  }),
  full_determinism: field(boolean(), {
    default: false,
    fate: "honoured",
    help: "Use only kernels that give the same bits every time, and stop at one that cannot. A run on the CPU repeats without it, with the same seed and number of threads.",
  }),
  average_tokens_across_devices: field(boolean(), {
    default: true,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Normalise the loss by the tokens of all devices together.",
  }),
  local_rank: field(integer({ min: -1 }), {
    default: -1,
    fate: "no-effect",
    why: ONE_PROCESS,
    refuse: (rank) => (rank > 0 ? `${ONE_PROCESS}; start slimtune without a launcher` : undefined),
    help: "Number of this process on its machine, given by a launcher.",
  }),
  ddp_backend: field(orNull(text()), {
    default: null,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Communication library of data parallelism.",
  }),
  ddp_timeout: field(integer({ min: 1 }), {
    default: 1800,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Seconds that a process waits for the others.",
  }),
  ddp_find_unused_parameters: field(orNull(boolean()), {
    default: null,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Look for weights without a gradient.",
  }),
  ddp_bucket_cap_mb: field(orNull(integer({ min: 1 })), {
    default: null,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Size of the pieces in which gradients are exchanged, in MB.",
  }),
  ddp_broadcast_buffers: field(orNull(boolean()), {
    default: null,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Send buffers from the first process to the others.",
  }),
  ddp_static_graph: field(orNull(boolean()), {
    default: null,
    fate: "no-effect",
    why: ONE_PROCESS,
    help: "Promise that every step uses the same weights.",
  }),
  fsdp: field(orNull(text()), {
    default: null,
    fate: "refused",
    why: "sharded training is not built yet; remove it",
    help: "Shard the model over devices with FSDP.",
  }),
  fsdp_config: field(orNull(either(mapping(), text())), {
    default: null,
    fate: "refused",
    why: "sharded training is not built yet; remove it",
    help: "Options of FSDP.",
  }),
  deepspeed: field(orNull(either(mapping(), text())), {
    default: null,
    fate: "refused",
    why: `DeepSpeed ${PYTHON}`,
    help: "Configuration of DeepSpeed.",
  }),
  accelerator_config: field(orNull(either(mapping(), text())), {
    default: null,
    fate: "refused",
    why: `Accelerate ${PYTHON}`,
    help: "Configuration of Accelerate.",
  }),
  parallelism_config: field(orNull(either(mapping(), text())), {
    default: null,
    fate: "refused",
    why: `Accelerate ${PYTHON}`,
    help: "Parallelism of Accelerate.",
  }),
});
