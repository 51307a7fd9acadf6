import { boolean, field, group, oneOf, orNull, text } from "./field.js";

const NO_PUSH = "nothing is uploaded in this version (push_to_hub must be false)";
const SCRIPT = "it steers Python's example scripts only; npx slimtune train always trains";

export const hub = group(
  "Hub and scripts",
  "Uploading to the Hugging Face Hub, which is not built yet, and flags that only Python's example scripts read.",
  {
    push_to_hub: field(boolean(), {
      default: false,
      fate: "refused",
      why: "not built yet; upload output_dir afterwards with Hugging Face's own tools",
      help: "Upload the result to the Hub.",
    }),
    hub_model_id: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: NO_PUSH,
      help: "Repository to upload to.",
    }),
    hub_token: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: NO_PUSH,
      help: "Access token of the Hub.",
    }),
    hub_private_repo: field(orNull(boolean()), {
      default: null,
      fate: "no-effect",
      why: NO_PUSH,
      help: "Make the repository private.",
    }),
    hub_strategy: field(oneOf(["end", "every_save", "checkpoint", "all_checkpoints"]), {
      default: "every_save",
      fate: "no-effect",
      why: NO_PUSH,
      help: "What to upload and when.",
    }),
    hub_always_push: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: NO_PUSH,
      help: "Upload even while another upload runs.",
    }),
    hub_revision: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: NO_PUSH,
      help: "Branch to upload to.",
    }),
    do_train: field(boolean(), { default: false, fate: "no-effect", why: SCRIPT, help: "Train, in a script." }),
    do_eval: field(boolean(), {
      default: false,
      fate: "refused",
      why: "it steers Python's example scripts only; remove it. eval_strategy evaluates during a run, npx slimtune eval by itself",
      help: "Evaluate, in a script.",
    }),
    do_predict: field(boolean(), {
      default: false,
      fate: "refused",
      why: "prediction is not built yet; remove it, or use npx slimtune generate",
      help: "Predict, in a script.",
    }),
  },
);
