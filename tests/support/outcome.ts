/** What a run leaves behind that must not depend on how often it was stopped or killed. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const sum = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** Without what the clock makes. */
function timeless(entry: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(entry).filter(([key]) => !/^time$|_runtime$|_per_second$/.test(key)));
}

function stateOf(folder: string) {
  const state = JSON.parse(readFileSync(join(folder, "trainer_state.json"), "utf8"));
  const { best_model_checkpoint: best, log_history } = state;
  return { ...state, best_model_checkpoint: best && basename(best), log_history: log_history.map(timeless) };
}

/** The checkpoint's files that hold the whole state of the run, but for what the clock makes. */
function checkpoint(folder: string) {
  const { tally, identity } = JSON.parse(readFileSync(join(folder, "slimtune_run.json"), "utf8"));
  const { seconds: _, askedSaves: __, ...counted } = tally; // which saves were asked for is a matter of the stops
  return {
    state: stateOf(folder),
    counted,
    identity,
    weights: sum(join(folder, "adapter_model.safetensors")),
    optimizer: sum(join(folder, "optimizer.safetensors")),
    random: sum(join(folder, "rng_state.safetensors")),
  };
}

/** The newest update that was saved; undefined where nothing was. */
export function lastSaved(folder: string): number | undefined {
  const steps = readdirSync(folder).flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? []);
  return steps.length > 0 ? Math.max(...steps.map(Number)) : undefined;
}

/** @param saved the update whose checkpoint belongs to it */
export function outcome(folder: string, saved: number | undefined) {
  const path = join(folder, `checkpoint-${saved}`);
  return {
    result: sum(join(folder, "adapter_model.safetensors")),
    state: stateOf(folder),
    metrics: readFileSync(join(folder, "metrics.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => timeless(JSON.parse(line))),
    checkpoint: saved === undefined ? undefined : existsSync(path) ? checkpoint(path) : "missing",
  };
}
