/** From measurements to figures and tables. */

export function median(values) {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return undefined;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Each update of a run by itself; the first, which pays for the start, is left out. */
export function updatesOf({ stepEnds }, steps) {
  return steps.slice(1).map(({ tokens, flops }, i) => {
    const seconds = stepEnds[i + 1] - stepEnds[i];
    return { seconds, tokensPerSecond: tokens / seconds, gflops: flops / seconds / 1e9 };
  });
}

/** Medians of one contestant: of speed over the updates of all its runs, of memory and of starts over the runs. */
export function summarise(runs, starts, steps, peakGflops) {
  const updates = runs.map((run) => updatesOf(run, steps));
  const middle = (name) => median(updates.flat().map((one) => one[name]));
  return {
    tokensPerSecond: middle("tokensPerSecond"),
    tokensPerSecondOfUpdates: updates.map((run) => run.map((one) => one.tokensPerSecond)),
    secondsPerStep: middle("seconds"),
    shareOfPeak: middle("gflops") / peakGflops,
    peakBytes: median(runs.map((run) => run.peakBytes)),
    peakAnonymousBytes: median(runs.map((run) => run.peakAnonymousBytes)),
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

export const gigabytes = (bytes) => (bytes === undefined ? "?" : `${(bytes / 1e9).toFixed(2)} GB`);

/** Rows of the table: its title, what is shown of a summary, and the number that a ratio is made of. */
const rows = [
  ["tokens/s", (s) => s.tokensPerSecond.toFixed(1), (s) => s.tokensPerSecond],
  ["seconds per step", (s) => s.secondsPerStep.toFixed(2), (s) => s.secondsPerStep],
  ["share of GEMM peak", (s) => s.shareOfPeak.toFixed(2), (s) => s.shareOfPeak],
  ["peak resident memory", (s) => gigabytes(s.peakBytes), (s) => s.peakBytes],
  ["of it no mapped file, peak", (s) => gigabytes(s.peakAnonymousBytes), (s) => s.peakAnonymousBytes],
  [
    "command to end of first step, tiny model",
    (s) => `${s.secondsToFirstStep.toFixed(2)} s`,
    (s) => s.secondsToFirstStep,
  ],
];

/** A Markdown table; the first column is text, the others are numbers. */
export function markdownTable(head, body) {
  const rule = head.map((_, i) => (i === 0 ? "---" : "---:"));
  return [head, rule, ...body].map(line).join("\n");
}

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
  return markdownTable(head, body);
}

/** A Markdown table of each measured update: how far they lie apart is how far a ratio can be trusted. */
export function updateTable(columns) {
  const speeds = columns.map(({ summary }) => summary.tokensPerSecondOfUpdates);
  const body = speeds[0].flatMap((updates, run) =>
    updates.map((_, i) => [`${run + 1}, ${i + 2}`, ...speeds.map((runs) => runs[run][i].toFixed(1))]),
  );
  return markdownTable(["run, update", ...columns.map(({ title }) => `tokens/s, ${title}`)], body);
}

/** A Markdown table of each update's loss and gradient norm. */
export function curveTable(columns) {
  const head = ["step", ...columns.flatMap(({ title }) => [`loss, ${title}`, "grad_norm"])];
  const body = columns[0].curve.map((_, step) => [
    step + 1,
    ...columns.flatMap(({ curve }) => [curve[step].loss.toFixed(6), curve[step].grad_norm.toFixed(6)]),
  ]);
  return markdownTable(head, body);
}
