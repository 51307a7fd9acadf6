/** Regular expressions from a config or a file, matched by RE2 in time that grows with the text alone. */
import { RE2JS } from "re2js";
import { UserError } from "./errors.js";

/** What Python's `re` knows and RE2 cannot have, by how it is written. */
const BEYOND_RE2: readonly (readonly [RegExp, string])[] = [
  [/\(\?[=!]/, "a look-ahead"],
  [/\(\?<[=!]/, "a look-behind"],
  [/\\[1-9]|\(\?P=/, "a back-reference"],
  [/\(\?\(/, "a condition"],
  [/\(\?>|[*+?}]\+/, "a part without backtracking"],
];

/**
 * A test whether the pattern matches the whole of a text, as Python's `re.fullmatch`.
 * @param option where the pattern comes from, for messages
 * @param prefix pattern of what may stand before it
 * @throws UserError for a pattern that is none, or that RE2 cannot match
 */
export function fullMatcher(source: string, option: string, prefix = ""): (text: string) => boolean {
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(prefix === "" ? source : `${prefix}(?:${source})`);
  } catch (error) {
    const beyond = BEYOND_RE2.find(([syntax]) => syntax.test(source))?.[1];
    if (beyond !== undefined) {
      throw new UserError(
        `${option}: '${source}' has ${beyond}, which patterns here cannot have: they are RE2's, so that none takes for ever. Write it without.`,
      );
    }
    const reason = (error as Error).message.replace(/^error parsing regexp: /, "");
    throw new UserError(`${option}: '${source}' is not a valid regular expression: ${reason}`, { cause: error });
  }
  return (text) => compiled.matches(text);
}
