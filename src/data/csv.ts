/** Comma-separated values, as RFC 4180 and spreadsheets write them: the first record names the columns. */
import { UserError } from "../support/errors.js";

interface CsvRecord {
  values: string[];
  /** Where it begins, from 1. */
  line: number;
}

/** Records of a text that comes in pieces. A value in quotes may hold commas, doubled quotes and ends of lines. */
export class CsvParser {
  readonly #file: string;
  #line = 1;
  #begun = 1;
  #values: string[] = [];
  #value = "";
  /** A quote was the last character of a quoted value: it ends it, or is the first of two. */
  #state: "plain" | "quoted" | "quote" = "plain";
  #wasReturn = false;
  #names: string[] | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  /** The rows that end in this piece, with their first lines. @throws UserError for a record that does not fit */
  push(text: string): { fields: Record<string, string>; line: number }[] {
    const rows: { fields: Record<string, string>; line: number }[] = [];
    const take = (record: CsvRecord | undefined) => {
      const row = record && this.#row(record);
      if (row) rows.push(row);
    };
    let start = 0; // of a stretch that is taken over as it is
    for (let i = 0; i < text.length; i++) {
      const char = text[i]!;
      const special = char === '"' || (this.#state !== "quoted" && (char === "," || char === "\n" || char === "\r"));
      if (!special) {
        if (this.#state === "quote")
          throw this.#problem(`${JSON.stringify(char)} stands after the quote that ends a value`);
        if (char === "\n") this.#line++;
        this.#wasReturn = false;
        continue;
      }
      this.#value += text.slice(start, i);
      start = i + 1;
      if (char === '"') this.#quote();
      else if (char === ",") this.#endValue();
      else if (!(char === "\n" && this.#wasReturn)) take(this.#endRecord());
      if (char === "\n" && !this.#wasReturn) this.#line++;
      if (char === "\r") this.#line++;
      if (char !== '"' && char !== ",") this.#begun = this.#line;
      this.#wasReturn = char === "\r";
    }
    this.#value += text.slice(start);
    return rows;
  }

  /** The last row, where no end of a line follows it. */
  end(): { fields: Record<string, string>; line: number }[] {
    if (this.#state === "quoted") throw this.#problem("a quote begins a value that never ends");
    if (this.#values.length === 0 && this.#value === "" && this.#state === "plain") return [];
    return this.push("\n");
  }

  #quote(): void {
    if (this.#state === "quoted") this.#state = "quote";
    else if (this.#state === "quote") {
      this.#value += '"';
      this.#state = "quoted";
    } else if (this.#value === "") this.#state = "quoted";
    else throw this.#problem("a quote stands within a value; put the value in quotes, and double those in it");
  }

  #endValue(): void {
    this.#values.push(this.#value);
    this.#value = "";
    this.#state = "plain";
  }

  /** Undefined for an empty line. */
  #endRecord(): CsvRecord | undefined {
    const empty = this.#values.length === 0 && this.#value === "" && this.#state === "plain";
    this.#endValue();
    const values = this.#values;
    this.#values = [];
    return empty ? undefined : { values, line: this.#begun };
  }

  #row({ values, line }: CsvRecord): { fields: Record<string, string>; line: number } | undefined {
    const names = this.#names;
    if (names === undefined) {
      const twice = values.find((name, i) => values.indexOf(name) !== i);
      if (twice !== undefined) throw this.#problem(`the column ${JSON.stringify(twice)} is there twice`, line);
      this.#names = values;
      return undefined;
    }
    if (values.length !== names.length) {
      const hint = "A value with a comma or an end of line must stand in quotes.";
      throw this.#problem(`the row has ${values.length} values for ${names.length} columns. ${hint}`, line);
    }
    return { fields: Object.fromEntries(names.map((name, i) => [name, values[i]!])), line };
  }

  #problem(what: string, line = this.#line): UserError {
    return new UserError(`${this.#file}:${line}: not valid CSV: ${what}`);
  }
}
