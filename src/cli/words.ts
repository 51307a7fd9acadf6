/** The words of a command line, read and written. */

/**
 * Takes one option out of the words: `--name value`, `--name=value`, or `--name` alone (an empty value); dashes and
 * underscores are the same, and the last one counts.
 * @param takes whether the word behind `--name` is its value
 */
export function takeOption(
  words: readonly string[],
  name: string,
  takes: (next: string) => boolean = (next) => !next.startsWith("--"),
): { value: string | undefined; rest: string[] } {
  const rest: string[] = [];
  let value: string | undefined;
  for (let i = 0; i < words.length; i++) {
    const [given = "", ...after] = words[i]!.split("=");
    if (!given.startsWith("--") || given.slice(2).replaceAll("-", "_") !== name) {
      rest.push(words[i]!);
    } else if (words[i]!.includes("=")) {
      value = after.join("=");
    } else {
      const next = words[i + 1];
      value = next !== undefined && takes(next) ? words[++i]! : "";
    }
  }
  return { value, rest };
}

/** Words as a shell takes them. */
export const shellWords = (words: readonly string[]): string =>
  words.map((word) => (/^[\w./=:@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
