import { boolean, either, field, group, number, oneOf, orNull, text, textList } from "./field.js";
import { refuseTrackers } from "./reporterNames.js";

const NO_TRACKIO = "it belongs to the tracker Trackio, which has no client here (report_to)";
const ONE_PROCESS = "a run is one process on one machine";

export const logging = group(
  "Logging",
  "What a run tells while it goes. Every log entry is also in log_history of trainer_state.json, at full precision.",
  {
    logging_strategy: field(oneOf(["no", "steps", "epoch"]), {
      default: "steps",
      fate: "honoured",
      help: "Log never, every logging_steps updates, or after each epoch.",
    }),
    logging_steps: field(number({ min: 0 }), {
      default: 500,
      fate: "honoured",
      help: "Updates between two log entries; below 1, a share of all updates. Short runs want a small value, such as 10.",
    }),
    logging_first_step: field(boolean(), { default: false, fate: "honoured", help: "Also log the first update." }),
    logging_nan_inf_filter: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: "a loss that is NaN or infinite is caught before it reaches the weights or the log; the config's health.non_finite says what happens then",
      help: "In Python, replace NaN and infinite losses in the log by the mean of the others.",
    }),
    disable_tqdm: field(orNull(boolean()), {
      default: null,
      fate: "honoured",
      help: "No live progress bar: plain lines, as when the output is piped. null: a bar on a terminal.",
    }),
    include_num_input_tokens_seen: field(either(oneOf(["no", "all", "non_padding"]), boolean()), {
      default: "no",
      fate: "honoured",
      help: "Count the tokens of the run in each log entry, with train_tokens_per_second: all (or true) counts the padding that Python would compute too, non_padding the tokens alone.",
    }),
    report_to: field(orNull(either(text(), textList())), {
      default: "none",
      fate: "honoured",
      refuse: refuseTrackers,
      help: "Experiment trackers to report to: tensorboard, mlflow, a list of them, all or none. metrics.jsonl in output_dir is always written.",
    }),
    run_name: field(orNull(text()), {
      default: null,
      fate: "honoured",
      help: "Name of the run in MLflow.",
    }),
    project: field(text(), {
      default: "huggingface",
      fate: "no-effect",
      why: NO_TRACKIO,
      help: "Name of the project in Trackio.",
    }),
    trackio_space_id: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: NO_TRACKIO,
      help: "Space of the Trackio tracker.",
    }),
    trackio_bucket_id: field(orNull(text()), {
      default: null,
      fate: "no-effect",
      why: NO_TRACKIO,
      help: "Bucket of the Trackio tracker.",
    }),
    trackio_static_space_id: field(orNull(either(text(), boolean())), {
      default: null,
      fate: "no-effect",
      why: NO_TRACKIO,
      help: "Static space of the Trackio tracker.",
    }),
    log_level: field(oneOf(["passive", "debug", "info", "warning", "error", "critical", "detail"]), {
      default: "passive",
      fate: "no-effect",
      why: "it sets the level of Python's logger; slimtune prints its summary, its notes and the log entries always",
      help: "Level of Python's logger.",
    }),
    log_level_replica: field(oneOf(["passive", "debug", "info", "warning", "error", "critical", "detail"]), {
      default: "warning",
      fate: "no-effect",
      why: ONE_PROCESS,
      help: "Level of Python's logger on other processes.",
    }),
    log_on_each_node: field(boolean(), {
      default: true,
      fate: "no-effect",
      why: ONE_PROCESS,
      help: "Log on each machine of a run.",
    }),
    skip_memory_metrics: field(boolean(), {
      default: true,
      fate: "refused",
      why: "memory metrics are not built yet; leave it at true",
      help: "Leave memory metrics out of the results.",
    }),
    debug: field(either(text(), textList()), {
      default: "",
      fate: "refused",
      why: "Python's debugging aids do not exist here; remove it (a NaN or infinite loss stops the run anyway)",
      help: "Python's debugging aids.",
    }),
  },
);
