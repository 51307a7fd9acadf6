import { boolean, either, field, group, mapping, orNull, text } from "./field.js";

const COMPILER = "torch.compile is Python's compiler; remove it, slimtune's kernels are compiled already";
const EVAL = "nothing is evaluated in this version (eval_strategy must be no)";

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
      fate: "refused",
      why: "not built yet; use bf16, which needs no loss scaling",
      help: "Train in float16 with loss scaling.",
    }),
    bf16_full_eval: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: EVAL,
      help: "Evaluate with bfloat16 weights.",
    }),
    fp16_full_eval: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: EVAL,
      help: "Evaluate with float16 weights.",
    }),
    tf32: field(orNull(boolean()), {
      default: null,
      fate: "honoured",
      refuse: (value) => (value ? "not built yet; remove it, float32 products keep full precision" : undefined),
      help: "Allow TensorFloat-32 products on a GPU. null and false: full float32.",
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
