import { boolean, either, field, group, mapping, orNull, text } from "./field.js";

const COMPILER = "torch.compile is Python's compiler; remove it, slimtune's kernels are compiled already";

export const precision = group(
  "Precision",
  "Number formats. bf16 halves the memory of the weights with float32's range; on a GPU it is also faster.",
  {
    bf16: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Train in bfloat16, with arithmetic as the device allows. Not together with fp16.",
    }),
    fp16: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Train in float16 with a dynamic loss scale, with arithmetic as the device allows: bf16 is safer where both can be had. Not together with bf16.",
    }),
    bf16_full_eval: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Round all weights to bfloat16 for an evaluation outside of a run (npx slimtune eval). During a run, as in the Trainer, it changes nothing.",
    }),
    fp16_full_eval: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Round all weights to float16 for an evaluation outside of a run (npx slimtune eval). During a run, as in the Trainer, it changes nothing.",
    }),
    tf32: field(orNull(boolean()), {
      default: null,
      fate: "honoured",
      help: "Let an NVIDIA GPU compute float32 products of matrices in TensorFloat-32: faster, with a fraction of 10 bits. null and false: full float32. Refused on the CPU, which has none.",
    }),
    torch_compile: field(boolean(), {
      default: false,
      fate: "refused",
      why: COMPILER,
      help: "Compile with torch.compile.",
    }),
    torch_compile_backend: field(orNull(text()), {
      default: null,
      fate: "refused",
      why: COMPILER,
      help: "Backend of torch.compile.",
    }),
    torch_compile_mode: field(orNull(text()), {
      default: null,
      fate: "refused",
      why: COMPILER,
      help: "Mode of torch.compile.",
    }),
    use_liger_kernel: field(boolean(), {
      default: false,
      fate: "refused",
      why: "Liger's kernels are Python code; remove it",
      help: "Use Liger's Triton kernels.",
    }),
    liger_kernel_config: field(orNull(either(mapping(), text())), {
      default: null,
      fate: "refused",
      why: "Liger's kernels are Python code; remove it",
      help: "Which Liger kernels to use.",
    }),
  },
);
