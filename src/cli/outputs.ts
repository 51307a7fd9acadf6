/** stdout and stderr of a command that goes on without them. */
import type { Terminal } from "../support/terminal.js";

/** The work is done, but not all that it printed arrived: an input/output error, as sysexits.h numbers it. */
export const EXIT_OUTPUT_LOST = 74;

/** A stream that is given up once it cannot be written: its reader has gone, or its disk is full. */
export class Output implements Terminal {
  readonly #name: string;
  readonly #stream: NodeJS.WriteStream;
  #problem: string | undefined;
  readonly #onError = (error: NodeJS.ErrnoException) => {
    this.#problem ??= error.code ?? error.message;
  };

  constructor(name: string, stream: NodeJS.WriteStream) {
    this.#name = name;
    this.#stream = stream;
    stream.on("error", this.#onError);
  }

  get isTTY(): boolean {
    return this.#stream.isTTY;
  }

  get columns(): number {
    return this.#stream.columns;
  }

  write(text: string): void {
    if (this.#problem === undefined) this.#stream.write(text);
  }

  /** What a person should know of it at the end; undefined when everything arrived. */
  async loss(): Promise<string | undefined> {
    if (this.#problem === undefined) await new Promise<void>((resolve) => this.#stream.write("", () => resolve()));
    return this.#problem && `${this.#name} could not be written (${this.#problem}); training went on without it.`;
  }

  [Symbol.dispose](): void {
    this.#stream.off("error", this.#onError);
  }
}

/**
 * The last word of a command about its outputs: of each one that was lost, on the other.
 * @returns the exit code; that of a failure or a signal says more than a lost output
 */
export async function tellLosses(stdout: Output, stderr: Output, code: number): Promise<number> {
  const [out, err] = [await stdout.loss(), await stderr.loss()];
  if (out !== undefined) stderr.write(`${out}\n`);
  if (err !== undefined) stdout.write(`${err}\n`);
  return code === 0 && (out ?? err) !== undefined ? EXIT_OUTPUT_LOST : code;
}
