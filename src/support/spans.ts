/** What JavaScript does when, for the profiler; costs nothing while nobody records. */

/** Nanoseconds of process.hrtime. */
export interface JsSpan {
  name: string;
  begin: number;
  end: number;
}

let recorded: JsSpan[] | undefined;

/** Records spans from now on, into the list that is returned, until `stopSpans`. */
export function recordSpans(): JsSpan[] {
  recorded = [];
  return recorded;
}

export function stopSpans(): void {
  recorded = undefined;
}

export const nanoseconds = (): number => Number(process.hrtime.bigint());

/** Runs `body`, which is synchronous, as a span of that name. */
export function span<T>(name: string, body: () => T): T {
  if (!recorded) return body();
  const begin = nanoseconds();
  try {
    return body();
  } finally {
    recorded.push({ name, begin, end: nanoseconds() });
  }
}
