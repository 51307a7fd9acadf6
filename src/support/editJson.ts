/**
 * Changes to a JSON text that leave its numbers as they are spelled. In JavaScript 30.0 is 30; Python's readers tell the two
 * apart, and transformers refuses a config.json with an integer where its class has a float.
 */

/** A string, passed over, or a number. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
const MARK = "\u{F8FF}number:";

type Fields = Record<string, unknown>;

/** @param how gets the object with each number that is spelled as a float, but whole, as something to pass on only */
export function editJson(text: string, how: (value: Fields) => Fields): string {
  const marked = text.replace(TOKENS, (token) =>
    /^[-\d].*[.eE]/.test(token) && Number.isInteger(Number(token)) ? `"${MARK}${token}"` : token,
  );
  const edited = JSON.stringify(how(JSON.parse(marked) as Fields), null, 2);
  return `${edited.replace(new RegExp(`"${MARK}([^"]*)"`, "g"), "$1")}\n`;
}
