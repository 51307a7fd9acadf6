/** `report_to: mlflow`: a run on an MLflow server, over its REST API (2.0). */

import type { TrainingArguments } from "../../arguments/index.js";
import type { LogEntry, TrainerState } from "../../runFolder/state.js";
import type { TrainerControl } from "../callbacks.js";
import type { Outcome, Reporter } from "./reporter.js";

const TIMEOUT_MS = 10_000;
/** At the end of a run, for what is still to be sent. */
const PATIENCE_MS = 15_000;
const MOST_WAITING = 10_000;
// The server's limits for one request, and for one value.
const METRICS_PER_BATCH = 1000;
const PARAMS_PER_BATCH = 100;
const LONGEST_PARAM = 6000;

interface Metric {
  key: string;
  value: number;
  /** Milliseconds since 1970. */
  timestamp: number;
  step: number;
}

const STATUS: Record<Outcome, string> = { finished: "FINISHED", interrupted: "KILLED", failed: "FAILED" };

/**
 * Environment: MLFLOW_TRACKING_URI (needed), MLFLOW_EXPERIMENT_NAME (default "Default"), MLFLOW_RUN_ID (go on with that
 * run), MLFLOW_TAGS (JSON), and for a server with accounts MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
 * MLFLOW_TRACKING_PASSWORD. Training never waits for the server: what cannot be sent is kept for the next time.
 */
export class MlflowReporter implements Reporter {
  readonly name = "report_to mlflow";
  readonly #environment: NodeJS.ProcessEnv;
  readonly #log: (line: string) => void;
  #args: TrainingArguments | undefined;
  #runId: string | undefined;
  #params: { key: string; value: string }[] = [];
  #waiting: Metric[] = [];
  #sending: Promise<void> | undefined;
  #failure: Error | undefined;

  constructor(log: (line: string) => void, environment: NodeJS.ProcessEnv = process.env) {
    this.#log = log;
    this.#environment = environment;
  }

  onTrainBegin(args: TrainingArguments): void {
    this.#args = args;
    this.#send();
  }

  onLog(_: TrainingArguments, state: TrainerState, __: TrainerControl, { logs }: { logs: Readonly<LogEntry> }): void {
    const timestamp = Date.now();
    for (const [name, value] of Object.entries(logs)) {
      const key = name.replaceAll(/[^0-9A-Za-z_\-. :/]/g, "_");
      this.#waiting.push({ key, value, timestamp, step: state.global_step });
    }
    this.#waiting.splice(0, Math.max(0, this.#waiting.length - MOST_WAITING));
    this.#send();
  }

  async close(outcome: Outcome): Promise<void> {
    if (!this.#args) return; // the run never began
    const deadline = AbortSignal.timeout(PATIENCE_MS);
    await this.#sending;
    await this.#flush(deadline).catch((error: Error) => {
      throw new Error(`${error.message}; ${this.#waiting.length} figures were not sent (metrics.jsonl has them)`);
    });
    await this.#call("runs/update", { run_id: this.#runId, status: STATUS[outcome], end_time: Date.now() }, deadline);
  }

  /** Sends what waits, if nothing is being sent; nobody waits for it. */
  #send(): void {
    this.#sending ??= this.#flush()
      .then(() => {
        this.#failure = undefined;
      })
      .catch((error: Error) => {
        if (!this.#failure)
          this.#log(`${this.name}: ${error.message}. Training goes on; figures are kept and sent later.`);
        this.#failure = error;
      })
      .finally(() => {
        this.#sending = undefined;
      });
  }

  async #flush(signal?: AbortSignal): Promise<void> {
    this.#runId ??= await this.#start(signal);
    while (this.#params.length > 0) {
      const params = this.#params.slice(0, PARAMS_PER_BATCH);
      await this.#call("runs/log-batch", { run_id: this.#runId, params }, signal);
      this.#params.splice(0, params.length);
    }
    while (this.#waiting.length > 0) {
      const metrics = this.#waiting.slice(0, METRICS_PER_BATCH);
      await this.#call("runs/log-batch", { run_id: this.#runId, metrics }, signal);
      const sent = new Set(metrics);
      this.#waiting = this.#waiting.filter((metric) => !sent.has(metric));
    }
  }

  async #start(signal?: AbortSignal): Promise<string> {
    const {
      MLFLOW_RUN_ID: known,
      MLFLOW_EXPERIMENT_NAME: experiment = "Default",
      MLFLOW_TAGS: tags,
    } = this.#environment;
    if (known) {
      await this.#call("runs/update", { run_id: known, status: "RUNNING" }, signal);
      return known;
    }
    const experiment_id = await this.#experiment(experiment, signal);
    const { run } = await this.#call(
      "runs/create",
      {
        experiment_id,
        run_name: this.#args?.run_name ?? undefined,
        start_time: Date.now(),
        tags: tags ? Object.entries(JSON.parse(tags)).map(([key, value]) => ({ key, value: String(value) })) : [],
      },
      signal,
    );
    const id: string = run.info.run_id;
    this.#params = Object.entries(this.#args!.toJSON())
      .map(([key, value]) => ({ key, value: typeof value === "string" ? value : JSON.stringify(value) }))
      .filter(({ key, value }) => key !== "hub_token" && value.length <= LONGEST_PARAM);
    this.#log(`MLflow run ${id} (to go on with it after a resume: MLFLOW_RUN_ID=${id})`);
    return id;
  }

  async #experiment(name: string, signal?: AbortSignal): Promise<string> {
    const query = `experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`;
    const found = await this.#call(query, undefined, signal).catch((error: Error) => {
      if (/RESOURCE_DOES_NOT_EXIST/.test(error.message)) return undefined;
      throw error;
    });
    if (found) return found.experiment.experiment_id;
    return (await this.#call("experiments/create", { name }, signal)).experiment_id;
  }

  /** POST where there is a body. @throws Error that names the server and what it says */
  // biome-ignore lint/suspicious/noExplicitAny: each caller knows the answer that the API gives it
  async #call(path: string, body: object | undefined, signal?: AbortSignal): Promise<any> {
    const uri = this.#environment.MLFLOW_TRACKING_URI!.replace(/\/$/, "");
    const signals = [AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])];
    let response: Response;
    try {
      response = await fetch(`${uri}/api/2.0/mlflow/${path}`, {
        method: body ? "POST" : "GET",
        headers: { "content-type": "application/json", ...this.#authorization() },
        body: body && JSON.stringify(body),
        signal: AbortSignal.any(signals),
      });
    } catch (error) {
      const cause = (error as Error).cause as Error | undefined;
      throw new Error(`${uri} does not answer (${cause?.message || (error as Error).message})`);
    }
    const answer = await response.text();
    if (!response.ok) throw new Error(`${uri} answers ${response.status} to ${path}: ${answer.slice(0, 300)}`);
    return JSON.parse(answer);
  }

  #authorization(): Record<string, string> {
    const {
      MLFLOW_TRACKING_TOKEN: token,
      MLFLOW_TRACKING_USERNAME: user,
      MLFLOW_TRACKING_PASSWORD: password,
    } = this.#environment;
    if (token) return { authorization: `Bearer ${token}` };
    if (!user) return {};
    return { authorization: `Basic ${Buffer.from(`${user}:${password ?? ""}`).toString("base64")}` };
  }
}
