/** The name in `names` that is closest to what was typed, or undefined when none is close enough to be meant. */
export function nearestName(typed: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  const wanted = normalise(typed);
  let bestDistance = Math.max(2, wanted.length / 2) + 1; // further away, it is another word
  for (const name of names) {
    const distance = editDistance(wanted, normalise(name));
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

/** ` (did you mean "x"?)`, or nothing when no name is close. */
export function didYouMean(typed: string, names: Iterable<string>): string {
  const name = nearestName(typed, names);
  return name === undefined ? "" : ` (did you mean "${name}"?)`;
}

// learningRate, learning-rate and LEARNING_RATE are the same name typed in another style.
const normalise = (name: string) => name.toLowerCase().replaceAll(/[-_\s]/g, "");

/** Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, substitution);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) cost = Math.min(cost, beforePrevious[j - 2]! + 1);
      row.push(cost);
    }
    beforePrevious = previous;
    previous = row;
  }
  return previous[b.length]!;
}
