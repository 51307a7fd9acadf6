/** Where an update's time went: the engine's timeline, each moment counted once. */

/** Of one thread, properly nested; nanoseconds from a common origin. */
export interface Span {
  name: string;
  begin: number;
  end: number;
}

export const CATEGORIES = [
  "GEMM",
  "attention",
  "elementwise",
  "optimizer",
  "engine",
  "data",
  "JavaScript",
  "idle",
] as const;
export type Category = (typeof CATEGORIES)[number];
export type Times = Record<Category, number>;

/** First match counts. Ops of slimtune call PyTorch's products inside, which count by themselves. */
const rules: [RegExp, Category][] = [
  [/^idle$/, "idle"],
  [/attention|Attention/, "attention"],
  [
    /^(?:aten::(?:_?(?:addmm|addbmm|addmv|baddbmm|bmm|mm|mv|matmul|linear)|_int_mm)_?(?:\..*)?$|mkldnn::|mkl::)/,
    "GEMM",
  ],
  [/_fused_(?:adam|sgd|adagrad)|_foreach_|slimtune::(?:\w*_step_|grad_norm)|linalg_vector_norm/, "optimizer"],
];

export function categoryOf(name: string): Category {
  return rules.find(([pattern]) => pattern.test(name))?.[1] ?? "elementwise";
}

/** Pieces of time in which nothing nested in a span ran: [begin, end) of each, in order. */
export function innermost(spans: readonly Span[]): Span[] {
  const sorted = [...spans].sort((a, b) => a.begin - b.begin || b.end - a.end);
  const open: Span[] = [];
  const pieces: Span[] = [];
  let time = Number.NEGATIVE_INFINITY;
  const until = (end: number) => {
    const top = open.at(-1);
    if (top && end > time) pieces.push({ name: top.name, begin: time, end });
    time = Math.max(time, end);
  };
  for (const span of sorted) {
    while (open.length > 0 && open.at(-1)!.end <= span.begin) {
      until(open.at(-1)!.end);
      open.pop();
    }
    until(span.begin);
    open.push(span);
  }
  while (open.length > 0) {
    until(open.at(-1)!.end);
    open.pop();
  }
  return pieces;
}

const overlap = (a: Span, begin: number, end: number) => Math.max(0, Math.min(a.end, end) - Math.max(a.begin, begin));

/**
 * The time of each window by category; the sum is the window's length. While the engine has nothing to do, the time is
 * what JavaScript did then; the engine's time between ops is its own.
 * @param engine innermost pieces of the engine's thread
 * @param javascript spans of the main thread, named by category
 */
export function attribute(engine: readonly Span[], javascript: readonly Span[], windows: readonly Span[]): Times[] {
  return windows.map(({ begin, end }) => {
    const times = Object.fromEntries(CATEGORIES.map((category) => [category, 0])) as Times;
    let covered = 0;
    for (const piece of engine) {
      const length = overlap(piece, begin, end);
      if (length === 0) continue;
      covered += length;
      let rest = length;
      const category = categoryOf(piece.name);
      if (category === "idle") {
        for (const span of javascript) {
          const shared = overlap(span, Math.max(begin, piece.begin), Math.min(end, piece.end));
          times[span.name as Category] += shared;
          rest -= shared;
        }
      }
      times[category] += rest;
    }
    times.engine += end - begin - covered;
    return times;
  });
}
