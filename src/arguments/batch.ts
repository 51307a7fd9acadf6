import { boolean, either, field, group, integer, mapping, number, orNull, text } from "./field.js";

export const batch = group(
  "Batches and memory",
  "The effective batch size is per_device_train_batch_size × gradient_accumulation_steps × devices. " +
    "When memory runs out, halve the first and double the second: the run stays the same.",
  {
    per_device_train_batch_size: field(integer({ min: 1 }), {
      default: 8,
      fate: "honoured",
      help: "Examples that go through the model at once on one device. The main lever on memory.",
    }),
    gradient_accumulation_steps: field(integer({ min: 1 }), {
      default: 1,
      fate: "honoured",
      help: "Batches whose gradients are added up before one optimizer update; the loss is normalised over all of them together.",
    }),
    auto_find_batch_size: field(boolean(), {
      default: false,
      fate: "refused",
      why: "not built yet; set per_device_train_batch_size to what fits and raise gradient_accumulation_steps in turn",
      help: "Try again with a smaller batch when memory runs out.",
    }),
    gradient_checkpointing: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Keep only the input of each layer and compute the layer again in the backward pass: less memory, more time, the same gradients. Norms, activations and the probabilities of attention are never kept, with it or without.",
    }),
    gradient_checkpointing_kwargs: field(orNull(either(mapping(), text())), {
      default: null,
      fate: "honoured",
      help: "Options of gradient_checkpointing: every_n_layers (only one layer of so many is computed again), use_reentrant (taken, and means nothing here).",
    }),
    activation_offloading: field(boolean(), {
      default: false,
      fate: "refused",
      why: "not built yet; to save memory lower per_device_train_batch_size and raise gradient_accumulation_steps",
      help: "Keep activations in host memory between the forward and the backward pass.",
    }),
    torch_empty_cache_steps: field(orNull(integer({ min: 1 })), {
      default: null,
      fate: "refused",
      why: "not built yet; remove it",
      help: "Give cached device memory back to the driver every so many updates.",
    }),
    use_cache: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: "training never keeps a key-value cache",
      help: "Python's switch for the model's key-value cache while training.",
    }),
    router_aux_loss_coef: field(number({ min: 0 }), {
      default: 0.001,
      fate: "no-effect",
      why: "it acts on mixture-of-experts models only, and none of these is supported",
      help: "Weight of the load-balancing loss of mixture-of-experts models.",
    }),
  },
);
