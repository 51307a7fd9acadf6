/** The terminal that a person reads: one writer for text and for the bar at its foot, colours, words wrapped. */

/** Where text goes; `process.stderr` and `process.stdout` are such streams. */
export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** A screen on which a line can be taken back. */
export const canRedraw = (out: Terminal, env: Environment = process.env) => out.isTTY === true && env.TERM !== "dumb";

const COLOURS = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;

export type Paint = Readonly<Record<keyof typeof COLOURS, (text: string) => string>>;

/** FORCE_COLOR decides (0 and false: none), then NO_COLOR, then whether it is a terminal that knows colours. */
export function hasColours(out: Terminal, env: Environment = process.env): boolean {
  const { FORCE_COLOR: force, NO_COLOR: no } = env;
  if (force !== undefined) return force !== "0" && force !== "false";
  return !no && canRedraw(out, env);
}

/** Only the basic colours, whose shades a person has chosen for a light or a dark screen. */
export function paintFor(out: Terminal, env: Environment = process.env): Paint {
  const colours = hasColours(out, env);
  const painter =
    ([on, off]: readonly [number, number]) =>
    (text: string) =>
      colours && text !== "" ? `\x1b[${on}m${text}\x1b[${off}m` : text;
  return Object.fromEntries(Object.entries(COLOURS).map(([name, codes]) => [name, painter(codes)])) as Paint;
}

/** Breaks at spaces, but not before %; a longer word has a line of its own. Lines after the first begin with `hang` spaces. */
export function wrap(text: string, width: number, hang = 0): string[] {
  const lines: string[] = [];
  const indent = " ".repeat(hang);
  let line: string | undefined;
  for (const word of text.split(/ (?!%)/)) {
    if (line !== undefined && line.trim() !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent + word;
    } else {
      line = line === undefined ? word : `${line} ${word}`;
    }
  }
  return [...lines, line ?? ""].map((done) => done.trimEnd());
}

/** Items between dots, broken only between two of them. */
export function wrapItems(items: readonly string[], width: number, hang = 0): string[] {
  const glued = items.map((item) => item.replaceAll(" ", "\0")).join("\0· ");
  return wrap(glued, width, hang).map((line) => line.replaceAll("\0", " "));
}

/** `Model       Llama: ...`: what follows such a label stands in a column of its own. */
const LABEL = /^[A-Z][a-z-]+ {2,}(?=\S)/;
/** A row of a table or a command to paste, which stays whole. */
const AS_IT_IS = /^ {2}\S/;

/**
 * What a person reads during a command, on one stream: whole lines, and below them one line that is drawn again and
 * again (a bar). On anything but a terminal there is no bar, and lines are as they were given.
 */
export class Screen implements Terminal {
  readonly #out: Terminal;
  readonly #env: Environment;
  #bar = "";

  constructor(out: Terminal, env: Environment = process.env) {
    this.#out = out;
    this.#env = env;
  }

  get isTTY(): boolean {
    return this.#out.isTTY === true;
  }

  /** Whether a bar can be seen on it. */
  get live(): boolean {
    return canRedraw(this.#out, this.#env);
  }

  get columns(): number {
    return this.#out.columns || 80;
  }

  get paint(): Paint {
    return paintFor(this.#out, this.#env);
  }

  /** Text as it is, above the bar; it ends with the end of a line. */
  write(text: string): void {
    this.above(() => this.#out.write(text));
  }

  /** A message without control characters: wrapped on a terminal, its label set off. */
  say(message: string): void {
    this.write(
      `${message
        .split("\n")
        .flatMap((line) => this.#laidOut(line))
        .join("\n")}\n`,
    );
  }

  /** Writes elsewhere (to stdout, on the same screen perhaps) without running into the bar. */
  above(write: () => void): void {
    const bar = this.#bar;
    if (bar !== "") this.#out.write("\r\x1b[K");
    write();
    if (bar !== "") this.#out.write(bar);
  }

  /** Draws the line at the foot anew; "" takes it away. It must be narrower than the screen. */
  draw(bar: string): void {
    if (!this.live || (bar === "" && this.#bar === "")) return;
    this.#out.write(`\r\x1b[K${bar}`);
    this.#bar = bar;
  }

  #laidOut(line: string): string[] {
    const label = LABEL.exec(line)?.[0] ?? "";
    const indent = /^ */.exec(line)![0].length;
    const lines =
      !this.isTTY || AS_IT_IS.test(line) ? [line] : wrap(line, this.columns - 1, Math.max(label.length, indent));
    const { bold, red, yellow } = this.paint;
    const first = lines[0]!;
    if (label !== "") lines[0] = bold(label) + first.slice(label.length);
    else if (first.startsWith("error:")) lines[0] = `${bold(red("error:"))}${first.slice(6)}`;
    else if (first.startsWith("Note:")) lines[0] = `${yellow("Note:")}${first.slice(5)}`;
    return lines;
  }
}

/** stderr as a person reads it: all of a process writes there through this one. */
export const person = new Screen(process.stderr);
