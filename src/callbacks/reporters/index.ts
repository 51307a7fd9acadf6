/** The reporters of a run: metrics.jsonl always, and what `report_to` names. */

import type { TrainingArguments } from "../../arguments/index.js";
import { trackersOf } from "../../arguments/reporterNames.js";
import { UserError } from "../../support/errors.js";
import { MetricsFile } from "./metricsFile.js";
import { MlflowReporter } from "./mlflow.js";
import { guarded, type Reporter } from "./reporter.js";
import { TensorBoardReporter } from "./tensorboard.js";

export type { Outcome, Reporter } from "./reporter.js";

/** @throws UserError when a tracker lacks what it needs */
export function createReporters(args: TrainingArguments, log: (line: string) => void): Reporter[] {
  const trackers = trackersOf(args.report_to, process.env);
  const reporters: Reporter[] = [new MetricsFile(args.output_dir)];
  if (trackers.has("tensorboard")) reporters.push(new TensorBoardReporter());
  if (trackers.has("mlflow")) {
    checkMlflow(process.env);
    reporters.push(new MlflowReporter(log));
  }
  return reporters.map((reporter) => guarded(reporter, log));
}

function checkMlflow({ MLFLOW_TRACKING_URI: uri, MLFLOW_TAGS: tags }: NodeJS.ProcessEnv): void {
  if (!uri || !/^https?:\/\//.test(uri)) {
    throw new UserError(
      `report_to: mlflow needs the environment variable MLFLOW_TRACKING_URI with the address of a server, such as http://localhost:5000 (start one with: mlflow server); it is ${uri ? `"${uri}"` : "not set"}.`,
    );
  }
  try {
    if (tags) JSON.parse(tags);
  } catch {
    throw new UserError(`report_to: mlflow: MLFLOW_TAGS is not JSON such as {"team": "a"}: ${tags}`);
  }
}
