/**
 * Text that others wrote (files, their names, servers, templates), made fit to be printed: a terminal obeys control
 * characters, which could hide a message, forge another, or type for the user.
 */
import { person } from "./terminal.js";

// Control characters but for the end of a line and the tab; and those that turn the direction of what follows.
const OBEYED = /[^\P{Cc}\n\t]|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

const spellOut = (character: string) => `\\u{${character.codePointAt(0)!.toString(16)}}`;

/** The text with its control characters spelt out: \u{1b} for the one that begins a terminal's commands. */
export const shown = (text: string): string => text.replace(OBEYED, spellOut);

/** A name from a file as it may appear in a message: quoted, shortened, without control characters. */
export function quoteName(name: string): string {
  const short = name.length > 100 ? `${name.slice(0, 100)}…` : name;
  return JSON.stringify(short).replace(/\p{C}/gu, spellOut);
}

/** A line for a person, on stderr, above a bar that is drawn there. */
export const tell = (line: string): void => person.say(shown(line));
