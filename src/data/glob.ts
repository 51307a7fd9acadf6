import { readdir } from "node:fs/promises";
import path from "node:path";
import { fullMatcher } from "../support/pattern.js";

const SPECIAL = /[*?[\]{}]/;

/** Whether a path has characters of a pattern: * ? [abc] {a,b}. */
export const isGlob = (text: string) => SPECIAL.test(text);

/**
 * The files that a pattern matches, sorted by name. `*`, `?`, `[abc]` and `{a,b}` stay within one part of the path,
 * `**` is any number of folders; names that start with a dot are matched only by a pattern that says so.
 */
export async function globFiles(pattern: string): Promise<string[]> {
  const absolute = path.isAbsolute(pattern);
  const parts = pattern.split(/[/\\]/).filter((part) => part !== "" && part !== ".");
  const found = new Set<string>();
  await walk(absolute ? path.parse(pattern).root || "/" : "", parts, found);
  return [...found].sort();
}

async function walk(folder: string, parts: string[], found: Set<string>): Promise<void> {
  const [part, ...rest] = parts;
  if (part === undefined) return;
  // A plain part needs no listing, and `..` is never listed; folders that do not exist match nothing.
  if (!isGlob(part) && rest.length > 0) return walk(path.join(folder, part), rest, found);
  const entries = await readdir(folder || ".", { withFileTypes: true }).catch(() => []);
  if (part === "**") {
    await walk(folder, rest.length > 0 ? rest : ["*"], found);
    for (const entry of entries) {
      // Links to folders are not followed: they may lead back up.
      if (entry.isDirectory() && !entry.name.startsWith(".")) await walk(path.join(folder, entry.name), parts, found);
    }
    return;
  }
  const matches = fullMatcher(toPattern(part), `dataset: the pattern ${part}`);
  for (const entry of entries) {
    if (!matches(entry.name) || (entry.name.startsWith(".") && !part.startsWith("."))) continue;
    const name = path.join(folder, entry.name);
    if (rest.length > 0) await walk(name, rest, found);
    else if (!entry.isDirectory()) found.add(name);
  }
}

function toPattern(part: string): string {
  let source = "(?s)";
  let depth = 0;
  for (let i = 0; i < part.length; i++) {
    const char = part[i]!;
    const close = char === "[" ? part.indexOf("]", i + 2) : -1;
    if (char === "*") source += ".*";
    else if (char === "?") source += ".";
    else if (close > 0) {
      const inside = part.slice(i + 1, close).replace(/[\\\]^[]/g, "\\$&");
      source += /^(?:!|\\\^)/.test(inside) ? `[^${inside.replace(/^(?:!|\\\^)/, "")}]` : `[${inside}]`;
      i = close;
    } else if (char === "{" && part.indexOf("}", i) > 0) {
      source += "(?:";
      depth++;
    } else if (char === "}" && depth > 0) {
      source += ")";
      depth--;
    } else if (char === "," && depth > 0) source += "|";
    else source += char.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  }
  return source;
}
