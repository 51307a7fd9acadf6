/** Finds where each token stands in its text. */

const encoder = new TextEncoder();
const SPACE = 0x20;
const isWhitespace = (byte: number | undefined) => byte !== undefined && (byte === SPACE || (byte >= 9 && byte <= 13));

/**
 * Start of each token in a text, in bytes of UTF-8, with the end of the last one after them; undefined when the tokens do
 * not spell the text (an unknown token, a normaliser that changes the text).
 * @param surfaces the bytes that each token stands for
 */
export function alignTokens(text: string, surfaces: Uint8Array[]): number[] | undefined {
  const bytes = encoder.encode(text);
  const starts: number[] = [];
  let at = 0;
  for (const surface of surfaces) {
    let from = at;
    // A special token may have swallowed the whitespace beside it (lstrip, rstrip).
    while (!matches(bytes, from, surface) && isWhitespace(bytes[from])) from++;
    if (matches(bytes, from, surface)) at = from;
    // A tokenizer may have put a space before a word that stands first.
    else if (surface[0] === SPACE && matches(bytes, at, surface.subarray(1))) {
      starts.push(at);
      at += surface.length - 1;
      continue;
    } else return undefined;
    starts.push(at);
    at += surface.length;
  }
  if (bytes.subarray(at).some((byte) => !isWhitespace(byte))) return undefined;
  starts.push(at);
  return starts;
}

function matches(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  if (at + wanted.length > bytes.length) return false;
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted[i]) return false;
  return true;
}

/**
 * Marks the tokens of stretches of a text, as transformers does: from the token that holds the first character of a
 * stretch to the first token that holds its last character.
 * @param starts what `alignTokens` returned
 * @param spans stretches as indices of UTF-16 units [start, end)
 */
export function markTokens(text: string, starts: number[], spans: [number, number][]): Uint8Array {
  const count = starts.length - 1;
  const mask = new Uint8Array(count);
  let [units, bytes] = [0, 0];
  const byteOf = (unit: number) => {
    bytes += Buffer.byteLength(text.slice(units, unit));
    units = unit;
    return bytes;
  };
  // A token of no width, such as an added first space, counts as holding the character after it.
  const firstHolding = (byte: number, from: number) => {
    let token = from;
    while (token < count && starts[token]! < byte && starts[token + 1]! <= byte) token++;
    return token;
  };
  let token = 0;
  for (const [start, end] of spans) {
    if (start >= end) continue;
    const firstByte = byteOf(start);
    const lastUnit = end - (isLowSurrogate(text, end - 1) ? 2 : 1);
    const lastByte = byteOf(Math.max(start, lastUnit));
    token = firstHolding(firstByte, token);
    const first = token;
    token = firstHolding(lastByte, token);
    mask.fill(1, first, token + 1);
  }
  return mask;
}

const isLowSurrogate = (text: string, index: number) => (text.charCodeAt(index) & 0xfc00) === 0xdc00;
