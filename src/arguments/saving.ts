import { boolean, either, field, group, integer, number, oneOf, orNull, text } from "./field.js";

export const saving = group(
  "Output and checkpoints",
  "Where results go and how a run can be taken up again: checkpoints are folders checkpoint-N in output_dir.",
  {
    output_dir: field(text(), {
      default: "trainer_output",
      fate: "honoured",
      help: "Folder for checkpoints and the final model or adapter, relative to the current folder.",
    }),
    save_strategy: field(oneOf(["no", "steps", "epoch", "best"]), {
      default: "steps",
      fate: "honoured",
      help: "Write checkpoints never, every save_steps updates (and at the end), after each epoch, or after each evaluation that is the best so far.",
    }),
    save_steps: field(number({ min: 0 }), {
      default: 500,
      fate: "honoured",
      help: "Updates between two checkpoints; below 1, a share of all updates.",
    }),
    save_total_limit: field(orNull(integer({ min: 0 })), {
      default: null,
      fate: "honoured",
      help: "Checkpoints to keep; older ones are deleted, but never the newest or the best. null or 0: all.",
    }),
    save_only_model: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Leave optimizer and random state out of checkpoints: smaller, but a run cannot resume from them.",
    }),
    resume_from_checkpoint: field(orNull(either(text(), boolean())), {
      default: null,
      fate: "honoured",
      help: "Take up a run again: true for the newest checkpoint in output_dir, or the path of one.",
    }),
    ignore_data_skip: field(boolean(), {
      default: false,
      fate: "refused",
      why: "slimtune always resumes at the exact place in the data; remove it",
      help: "When resuming, start the data afresh instead of where the run stopped.",
    }),
    restore_callback_states_from_checkpoint: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: "a resumed run always takes up the state of its callbacks, to end as if it had never stopped",
      help: "When resuming, restore the state of callbacks too.",
    }),
    save_on_each_node: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: "a run is one process on one machine",
      help: "Save on each machine of a run.",
    }),
    enable_jit_checkpoint: field(boolean(), {
      default: false,
      fate: "no-effect",
      why: "SIGTERM and Ctrl-C always finish the step and save a checkpoint",
      help: "Save a checkpoint when the process is asked to end.",
    }),
  },
);
