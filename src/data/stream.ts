/**
 * Text of a growing list of tokens, handed out as soon as it is final. A character whose bytes stand in several tokens,
 * or a space that depends on the next token, is held back until it is complete.
 */
export class StreamDecoder {
  readonly #decode: (ids: number[]) => string;
  // Tokens that are still needed: [0, #shown) were handed out and give the context in which the others decode.
  #ids: number[] = [];
  #shown = 0;

  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode;
  }

  /** Adds a token; returns the text that became final, which may be empty. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    // The replacement character at the end may be the first bytes of a character.
    if (text.endsWith("\uFFFD")) return "";
    return this.#show(text);
  }

  /** The text still held back, at the end of the stream: bytes that never became a character show as U+FFFD. */
  flush(): string {
    const text = this.#show(this.#decode(this.#ids));
    this.#ids = [];
    this.#shown = 0;
    return text;
  }

  #show(text: string): string {
    const added = text.slice(this.#decode(this.#ids.slice(0, this.#shown)).length);
    // Tokens that show nothing (skipped special ones) are no context: the next would lose its space as if it were first.
    if (added === "") return "";
    this.#ids = this.#ids.slice(this.#shown);
    this.#shown = this.#ids.length;
    return added;
  }
}
