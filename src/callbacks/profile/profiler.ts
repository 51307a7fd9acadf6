/** `profile`: a Chrome trace of the first updates, and a table of where their time went. */
import { writeFile } from "node:fs/promises";
import { UserError } from "../../support/errors.js";
import { type JsSpan, nanoseconds, recordSpans, stopSpans } from "../../support/spans.js";
import { loadNative } from "../../torch/index.js";
import type { TrainerCallback } from "../callbacks.js";
import { attribute, CATEGORIES, categoryOf, innermost, type Span, type Times } from "./attribute.js";

/** Updates that are recorded: a trace of more is too large to look at. */
const UPDATES = 20;
const TOP_OPS = 12;

/** Records from the first update on, and writes the trace after `UPDATES` of them or at the end of the run. */
export class ProfilerCallback implements TrainerCallback {
  readonly #path: string;
  readonly #log: (line: string) => void;
  readonly #windows: Span[] = [];
  #origin = 0;
  #javascript: JsSpan[] | undefined;

  constructor(path: string, log: (line: string) => void) {
    this.#path = path;
    this.#log = log;
  }

  /** @throws UserError before the first update, rather than after the last, when the file cannot be written */
  async onTrainBegin(): Promise<void> {
    await writeFile(this.#path, "").catch((error: Error) => {
      throw new UserError(`profile: ${this.#path} cannot be written: ${error.message}`);
    });
  }

  onStepBegin(): void {
    if (this.#windows.length >= UPDATES) return;
    if (!this.#javascript) {
      this.#origin = loadNative().startProfiler();
      this.#javascript = recordSpans();
    }
    this.#windows.push({ name: `update ${this.#windows.length + 1}`, begin: this.#time(), end: Number.NaN });
  }

  async onStepEnd(): Promise<void> {
    const last = this.#windows.at(-1);
    if (!this.#javascript || !last) return;
    await loadNative().flush(); // so that the update's own work lies inside its window
    last.end = this.#time();
    if (this.#windows.length === UPDATES) await this.#finish();
  }

  async onTrainEnd(): Promise<void> {
    if (this.#javascript) await this.#finish();
  }

  #time(): number {
    return nanoseconds() - this.#origin;
  }

  async #finish(): Promise<void> {
    const { names, spans } = await loadNative().stopProfiler();
    stopSpans();
    const javascript = this.#javascript!.map(({ name, begin, end }) => ({
      name,
      begin: begin - this.#origin,
      end: end - this.#origin,
    }));
    this.#javascript = undefined;
    const threads = new Map<number, Span[]>();
    for (let i = 0; i < spans.length; i += 4) {
      const [name, thread, begin, end] = spans.subarray(i, i + 4) as unknown as [number, number, number, number];
      if (!threads.has(thread)) threads.set(thread, []);
      threads.get(thread)!.push({ name: names[name]!, begin, end });
    }
    // the engine's thread is the one that waits for work
    const engine = [...threads.values()].find((list) => list.some(({ name }) => name === "idle")) ?? [];
    const pieces = innermost(engine);
    const windows = this.#windows.filter(({ end }) => !Number.isNaN(end));
    const times = attribute(pieces, javascript, windows);
    await writeFile(this.#path, traceText(threads, javascript, windows, times));
    for (const line of table(times, pieces, windows)) this.#log(line);
    this.#log(`Trace of ${windows.length} updates: ${this.#path} (open it in https://ui.perfetto.dev)`);
  }
}

/** The trace event format that Chrome and Perfetto read; times in microseconds. */
function traceText(
  threads: Map<number, Span[]>,
  javascript: readonly Span[],
  windows: readonly Span[],
  times: Times[],
) {
  const event = (tid: number, { name, begin, end }: Span) =>
    JSON.stringify({ name, cat: categoryOf(name), ph: "X", pid: 1, tid, ts: begin / 1e3, dur: (end - begin) / 1e3 });
  const title = (tid: number, name: string) =>
    JSON.stringify({ name: "thread_name", ph: "M", pid: 1, tid, args: { name } });
  const lines = [
    title(0, "JavaScript"),
    title(-1, "updates"),
    ...[...threads.keys()].map((tid) => title(tid, `LibTorch ${tid}`)),
    ...windows.map((one) => event(-1, one)),
    ...javascript.map((one) => event(0, one)),
    ...[...threads].flatMap(([tid, list]) => list.map((one) => event(tid, one))),
  ];
  const seconds = times.map((one) => Object.fromEntries(CATEGORIES.map((category) => [category, one[category] / 1e9])));
  return `{"traceEvents":[\n${lines.join(",\n")}\n],"otherData":${JSON.stringify({ seconds_per_update: seconds })}}\n`;
}

/** Lines for a person: means over the updates, without the first when there are others, for it pays for the start. */
function table(times: Times[], pieces: readonly Span[], windows: readonly Span[]): string[] {
  const counted = times.length > 1 ? times.slice(1) : times;
  const from = windows[times.length > 1 ? 1 : 0]?.begin ?? 0;
  const mean = (category: keyof Times) => counted.reduce((sum, one) => sum + one[category], 0) / counted.length / 1e9;
  const total = CATEGORIES.reduce((sum, category) => sum + mean(category), 0);
  const row = (name: string, seconds: number) =>
    `  ${name.padEnd(44)} ${seconds.toFixed(3).padStart(9)} s ${((100 * seconds) / total).toFixed(1).padStart(5)} %`;
  const byOp = new Map<string, number>();
  for (const { name, begin, end } of pieces) {
    if (begin >= from) byOp.set(name, (byOp.get(name) ?? 0) + (end - begin) / counted.length / 1e9);
  }
  byOp.delete("idle");
  const top = [...byOp].sort((a, b) => b[1] - a[1]).slice(0, TOP_OPS);
  return [
    `Profile     ${total.toFixed(3)} s per update (mean of ${counted.length}${times.length > 1 ? ", the first left out" : ""})`,
    ...CATEGORIES.map((category) => row(category, mean(category))),
    "  Most time in:",
    ...top.map(([name, seconds]) => row(name.length > 44 ? `${name.slice(0, 41)}...` : name, seconds)),
  ];
}
