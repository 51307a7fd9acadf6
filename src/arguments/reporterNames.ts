/** What `report_to` takes. */

/** Trackers that there are here. */
export const TRACKERS = ["tensorboard", "mlflow"] as const;
export type Tracker = (typeof TRACKERS)[number];

/** Names that Python's Trainer knows and that cannot be had. */
const ELSEWHERE = [
  "azure_ml",
  "clearml",
  "codecarbon",
  "comet_ml",
  "dagshub",
  "dvclive",
  "flyte",
  "kubeflow",
  "neptune",
  "swanlab",
  "trackio",
];

const INSTEAD = "use tensorboard or mlflow, read metrics.jsonl in output_dir, or write a callback (TypeScript)";

/** Why a value of report_to cannot be had, or undefined when it can. */
export function refuseTrackers(value: string | readonly string[] | null): string | undefined {
  for (const name of [value ?? []].flat()) {
    if (["none", "all", ...TRACKERS].includes(name)) continue;
    if (name === "wandb") {
      return `Weights & Biases has no client for JavaScript that is kept up (wandb-js: last changed in 2023, beta); ${INSTEAD}. wandb can show TensorBoard files: wandb sync output_dir/runs/...`;
    }
    if (ELSEWHERE.includes(name)) return `${name} has no client here; ${INSTEAD}`;
    return `there is no tracker "${name}"; names are none, all, ${TRACKERS.join(", ")}`;
  }
  return undefined;
}

/** The trackers of a value. `all` are those that can work: mlflow where MLFLOW_TRACKING_URI names a server. */
export function trackersOf(value: string | readonly string[] | null, environment: NodeJS.ProcessEnv): Set<Tracker> {
  const trackers = new Set<Tracker>();
  for (const name of [value ?? []].flat()) {
    if (name === "all") {
      trackers.add("tensorboard");
      if (environment.MLFLOW_TRACKING_URI) trackers.add("mlflow");
    } else if (name !== "none") trackers.add(name as Tracker);
  }
  return trackers;
}
