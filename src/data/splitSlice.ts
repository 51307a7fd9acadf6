/** Splits with a slice, as Python's `datasets` writes them: `train[:80%]`, `train[-100:]`, `train[:10%]+train[90%:]`. */
import { UserError } from "../support/errors.js";

/** A stretch of a split; without `slice`, all of it. */
export interface SplitPart {
  /** Undefined where only a slice was given. */
  name: string | undefined;
  slice?: (count: number) => [start: number, end: number];
}

const PART =
  /^(?<name>[^[\](){}+]*?)(?:\[(?:(?<from>-?[\d_]+)(?<fromPercent>%)?)?:(?:(?<to>-?[\d_]+)(?<toPercent>%)?)?\])?(?:\((?<rounding>[^)]*)\))?$/;

/** What is wrong with the text of a split; undefined when nothing is. */
export function splitProblem(split: string): string | undefined {
  try {
    parseSplit(split);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** @throws UserError for what is no split */
export function parseSplit(split: string): SplitPart[] {
  return split.split(/\s*\+\s*/).map((text) => parsePart(text, split));
}

function parsePart(text: string, split: string): SplitPart {
  const found = PART.exec(text)?.groups;
  const refuse = (why: string) =>
    new UserError(`"${split}" ${why}; write train, train[:80%], train[100:] or a sum of such`);
  if (!found || text === "") throw refuse("is no split");
  const { from, to, fromPercent, toPercent, rounding } = found;
  const name = found.name || undefined;
  if (!text.includes("[")) {
    if (rounding !== undefined) throw refuse("rounds a slice that it does not have");
    return { name };
  }
  const percent = (fromPercent ?? toPercent) !== undefined;
  if (rounding !== undefined && !(percent && ["closest", "pct1_dropremainder"].includes(rounding))) {
    throw refuse(`rounds by "${rounding}", and percentages are rounded by closest or pct1_dropremainder`);
  }
  const [first, last] = [from, to].map((bound) => (bound ? Number(bound.replaceAll("_", "")) : undefined));
  for (const bound of [first, last]) {
    if (bound !== undefined && percent && Math.abs(bound) > 100) throw refuse(`has ${bound}%, and there are 100`);
  }
  const place = (bound: number | undefined, absent: number, count: number) => {
    if (bound === undefined) return absent;
    const rows = !percent
      ? bound
      : rounding === "pct1_dropremainder"
        ? bound * Math.trunc(count / 100)
        : roundHalfEven((bound * count) / 100);
    return Math.min(rows < 0 ? Math.max(count + rows, 0) : rows, count);
  };
  return { name, slice: (count) => [place(first, 0, count), place(last, count, count)] };
}

/** Python's `round`: a half goes to the even neighbour. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
