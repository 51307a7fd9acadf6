/** The part of an MLflow server that a training run uses, with its rules and its kinds of errors. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

export interface MlflowRun {
  run_id: string;
  experiment: string;
  run_name?: string;
  status: string;
  params: Record<string, string>;
  tags: Record<string, string>;
  metrics: { key: string; value: number; step: number; timestamp: number }[];
}

export interface MlflowServer extends AsyncDisposable {
  uri: string;
  runs: MlflowRun[];
  authorizations: (string | undefined)[];
  /** Requests are answered with this status while it is set. */
  failWith: number | undefined;
}

interface Pair {
  key: string;
  value: string;
}

export async function mlflowServer(port = 0): Promise<MlflowServer> {
  const experiments = new Map([["Default", "0"]]);
  const state: Pick<MlflowServer, "runs" | "authorizations" | "failWith"> = {
    runs: [],
    authorizations: [],
    failWith: undefined,
  };
  const fail = (status: number, error_code: string, message: string) => ({ status, body: { error_code, message } });
  const ok = (body: object) => ({ status: 200, body });

  async function answer(request: IncomingMessage): Promise<{ status: number; body: object }> {
    state.authorizations.push(request.headers.authorization);
    if (state.failWith) return fail(state.failWith, "INTERNAL_ERROR", "as the test wishes");
    const url = new URL(request.url!, "http://server");
    const body = request.method === "POST" ? await json(request) : {};
    const run = state.runs.find(({ run_id }) => run_id === body.run_id);
    switch (`${request.method} ${url.pathname}`) {
      case "GET /api/2.0/mlflow/experiments/get-by-name": {
        const id = experiments.get(url.searchParams.get("experiment_name")!);
        if (id === undefined) return fail(404, "RESOURCE_DOES_NOT_EXIST", "Could not find experiment");
        return ok({ experiment: { experiment_id: id } });
      }
      case "POST /api/2.0/mlflow/experiments/create":
        experiments.set(body.name, String(experiments.size));
        return ok({ experiment_id: experiments.get(body.name) });
      case "POST /api/2.0/mlflow/runs/create": {
        const experiment = [...experiments].find(([, id]) => id === body.experiment_id)?.[0];
        if (experiment === undefined) return fail(404, "RESOURCE_DOES_NOT_EXIST", "No such experiment");
        const tags = Object.fromEntries((body.tags as Pair[]).map(({ key, value }) => [key, value]));
        const run_id = `run${state.runs.length + 1}`;
        const { run_name } = body;
        state.runs.push({ run_id, experiment, run_name, status: "RUNNING", params: {}, tags, metrics: [] });
        return ok({ run: { info: { run_id } } });
      }
      case "POST /api/2.0/mlflow/runs/log-batch": {
        if (!run) return fail(404, "RESOURCE_DOES_NOT_EXIST", `Run '${body.run_id}' not found`);
        const { metrics = [], params = [] } = body;
        if (metrics.length > 1000 || params.length > 100) return fail(400, "INVALID_PARAMETER_VALUE", "too many");
        for (const { key, value } of params as Pair[]) {
          if (value.length > 6000) return fail(400, "INVALID_PARAMETER_VALUE", `${key} is too long`);
          run.params[key] = value;
        }
        for (const metric of metrics) {
          if (!/^[\w\-. :/]+$/.test(metric.key) || typeof metric.value !== "number") {
            return fail(400, "INVALID_PARAMETER_VALUE", `bad metric ${JSON.stringify(metric)}`);
          }
          run.metrics.push(metric);
        }
        return ok({});
      }
      case "POST /api/2.0/mlflow/runs/update":
        if (!run) return fail(404, "RESOURCE_DOES_NOT_EXIST", `Run '${body.run_id}' not found`);
        run.status = body.status;
        return ok({ run_info: {} });
      default:
        return fail(404, "ENDPOINT_NOT_FOUND", `${request.method} ${url.pathname}`);
    }
  }

  const server = createServer(async (request, response) => {
    const { status, body } = await answer(request);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return Object.assign(state, {
    uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

// biome-ignore lint/suspicious/noExplicitAny: what a client sent
async function json(request: IncomingMessage): Promise<any> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}
