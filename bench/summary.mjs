/** From measurements to figures and tables. */

export function median(values) {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return undefined;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Figures of one run; the first update, which pays for the start, counts as warm-up. */
export function figures({ stepEnds, peakBytes }, steps) {
  const seconds = stepEnds.at(-1) - stepEnds[0];
  const measured = steps.slice(1);
  return {
    tokensPerSecond: sum(measured.map(({ tokens }) => tokens)) / seconds,
    secondsPerStep: seconds / measured.length,
    gflops: sum(measured.map(({ flops }) => flops)) / seconds / 1e9,
    peakBytes,
  };
}

/** Medians over the runs of one contestant. */
export function summarise(runs, starts, steps, peakGflops) {
  const all = runs.map((run) => figures(run, steps));
  const middle = (name) => median(all.map((one) => one[name]));
  return {
    tokensPerSecond: middle("tokensPerSecond"),
    tokensPerSecondOfRuns: all.map((one) => one.tokensPerSecond),
    secondsPerStep: middle("secondsPerStep"),
    shareOfPeak: middle("gflops") / peakGflops,
    peakBytes: middle("peakBytes"),
    secondsToFirstStep: median(starts.map(({ stepEnds }) => stepEnds[0])),
  };
}

/** The largest relative difference of any loss or gradient norm between curves of the same run. */
export function disagreement(curves) {
  const [first, ...others] = curves;
  let largest = 0;
  for (const other of others) {
    if (other.length !== first.length) return Number.POSITIVE_INFINITY;
    for (const [step, entry] of other.entries()) {
      for (const name of ["loss", "grad_norm"]) {
        const difference = Math.abs(entry[name] - first[step][name]) / Math.abs(first[step][name]);
        // not Math.max, which a NaN would pass through unseen
        if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
      }
    }
  }
  return largest;
}

const gigabytes = (bytes) => (bytes === undefined ? "?" : `${(bytes / 1e9).toFixed(2)} GB`);

/** Rows of the table: its title, what is shown of a summary, and the number that a ratio is made of. */
const rows = [
  ["tokens/s", (s) => s.tokensPerSecond.toFixed(1), (s) => s.tokensPerSecond],
  ["seconds per step", (s) => s.secondsPerStep.toFixed(2), (s) => s.secondsPerStep],
  ["share of GEMM peak", (s) => s.shareOfPeak.toFixed(2), (s) => s.shareOfPeak],
  ["peak resident memory", (s) => gigabytes(s.peakBytes), (s) => s.peakBytes],
  [
    "command to end of first step, tiny model",
    (s) => `${s.secondsToFirstStep.toFixed(2)} s`,
    (s) => s.secondsToFirstStep,
  ],
];

const line = (cells) => `| ${cells.join(" | ")} |`;

/** A Markdown table: a column per contestant, and after each peer slimtune's figure divided by the peer's. */
export function figureTable(columns) {
  const [own, ...others] = columns;
  const head = ["", own.title, ...others.flatMap(({ title }) => [title, "ratio"])];
  const body = rows.map(([title, show, value]) => [
    title,
    show(own.summary),
    ...others.flatMap(({ summary }) => [show(summary), (value(own.summary) / value(summary)).toFixed(2)]),
  ]);
  return [head, head.map((_, i) => (i === 0 ? "---" : "---:")), ...body].map(line).join("\n");
}

/** A Markdown table of each run by itself: how far the runs lie apart is how far a ratio can be trusted. */
export function runTable(columns) {
  const speeds = columns.map(({ summary }) => summary.tokensPerSecondOfRuns);
  const head = ["run", ...columns.map(({ title }) => `tokens/s, ${title}`)];
  const body = speeds[0].map((_, run) => [run + 1, ...speeds.map((speed) => speed[run].toFixed(1))]);
  return [head, head.map(() => "---:"), ...body].map(line).join("\n");
}

/** A Markdown table of each update's loss and gradient norm. */
export function curveTable(columns) {
  const head = ["step", ...columns.flatMap(({ title }) => [`loss, ${title}`, "grad_norm"])];
  const body = columns[0].curve.map((_, step) => [
    step + 1,
    ...columns.flatMap(({ curve }) => [curve[step].loss.toFixed(6), curve[step].grad_norm.toFixed(6)]),
  ]);
  return [head, head.map(() => "---:"), ...body].map(line).join("\n");
}
