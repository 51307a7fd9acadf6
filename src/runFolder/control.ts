/** control.jsonl: lines by which anyone who may write into the folder of a run steers it. */

import { randomUUID } from "node:crypto";
import { appendFile, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { zodProblem } from "../support/zodProblem.js";
import { CONTROL } from "./files.js";

/** Settings that can be changed while a run goes; a change means what a resume with that argument would. */
export const SETTABLE = [
  "learning_rate",
  "max_grad_norm",
  "logging_steps",
  "save_steps",
  "eval_steps",
  "max_steps",
] as const;
/** The name of such a setting. */
export type Settable = (typeof SETTABLE)[number];
/** New values by name. */
export type SettableValues = Partial<Record<Settable, number>>;

const id = z.string().min(1).max(200);
const action = <A extends string>(name: A) => z.strictObject({ id, do: z.literal(name) });

export const controlLineSchema = z.discriminatedUnion("do", [
  action("pause"),
  action("resume"),
  action("save"),
  action("evaluate"),
  action("stop"),
  z.strictObject({
    id,
    do: z.literal("set"),
    values: z
      .partialRecord(z.enum(SETTABLE), z.number())
      .refine((values) => Object.keys(values).length > 0, "expected at least one setting"),
  }),
]);
/** A line of control.jsonl: what is asked of a run, with an id for the answer. */
export type ControlLine = z.output<typeof controlLineSchema>;

/** What became of a line. */
export const controlAnswerSchema = z.object({
  id: z.string().nullable().describe("Of the line; null where it had none that could be read."),
  do: z.string().nullable(),
  ok: z.boolean(),
  message: z.string(),
  step: z.int().describe("Finished updates at that moment."),
  time: z.string().describe("ISO 8601"),
});
export type ControlAnswer = z.output<typeof controlAnswerSchema>;

/** A line that cannot be followed, and why. */
export interface BadLine {
  id: string | null;
  do: string | null;
  problem: string;
}

const LONGEST_LINE = 64 * 1024;

/** Asks something of the run in `folder`; resolves to the id under which status.json will answer. */
export async function sendControl(
  folder: string,
  request: { [K in ControlLine["do"]]: Omit<Extract<ControlLine, { do: K }>, "id"> }[ControlLine["do"]],
): Promise<string> {
  const line = controlLineSchema.parse({ ...request, id: randomUUID() });
  await appendFile(join(folder, CONTROL), `${JSON.stringify(line)}\n`);
  return line.id;
}

/** Reads the lines that are written from now on, each once. */
export class ControlReader {
  readonly #path: string;
  #offset: number;
  #rest: Buffer = Buffer.alloc(0);
  /** Within a line that is too long to be kept. */
  #skipping = false;

  private constructor(path: string, offset: number) {
    this.#path = path;
    this.#offset = offset;
  }

  /** Lines that are there already were meant for an earlier start. */
  static async open(folder: string): Promise<ControlReader> {
    const path = join(folder, CONTROL);
    const size = await stat(path).then(
      (info) => info.size,
      () => 0,
    );
    return new ControlReader(path, size);
  }

  /** The whole lines that came since the last call. A file that cannot be read has none. */
  async poll(): Promise<(ControlLine | BadLine)[]> {
    const size = await stat(this.#path).then(
      (info) => (info.isFile() ? info.size : 0),
      () => 0,
    );
    if (size < this.#offset) this.#offset = size; // someone emptied it
    if (size === this.#offset) return [];
    const lines: (ControlLine | BadLine)[] = [];
    const file = await open(this.#path, "r").catch(() => undefined);
    if (!file) return [];
    try {
      const chunk = Buffer.alloc(Math.min(size - this.#offset, LONGEST_LINE));
      while (this.#offset < size) {
        const { bytesRead } = await file.read(chunk, 0, chunk.length, this.#offset);
        if (bytesRead === 0) break;
        this.#offset += bytesRead;
        this.#take(chunk.subarray(0, bytesRead), lines);
      }
    } finally {
      await file.close();
    }
    return lines;
  }

  #take(chunk: Buffer, lines: (ControlLine | BadLine)[]): void {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#keep(chunk.subarray(start, end), lines);
      const text = this.#rest.toString("utf8").trim();
      if (text !== "") lines.push(parseLine(text));
      this.#rest = Buffer.alloc(0);
      this.#skipping = false;
      start = end + 1;
    }
    this.#keep(chunk.subarray(start), lines);
  }

  /** Adds to the line at hand. One that is too long is told once, and the rest of it passed over. */
  #keep(part: Buffer, lines: (ControlLine | BadLine)[]): void {
    if (this.#skipping) return;
    this.#rest = Buffer.concat([this.#rest, part]);
    if (this.#rest.length <= LONGEST_LINE) return;
    lines.push({ id: null, do: null, problem: `a line is longer than ${LONGEST_LINE} bytes` });
    this.#rest = Buffer.alloc(0);
    this.#skipping = true;
  }
}

function parseLine(text: string): ControlLine | BadLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { id: null, do: null, problem: `not valid JSON: ${(error as Error).message}` };
  }
  const parsed = controlLineSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const given = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const named = (field: unknown) => (typeof field === "string" ? field.slice(0, 200) : null);
  const actions = controlLineSchema.options.map((option) => [...option.shape.do.values].join()).join(", ");
  const issue = parsed.error.issues[0]!;
  const problem =
    issue.code === "invalid_union" || typeof given.do !== "string"
      ? `do must be one of ${actions}`
      : zodProblem(parsed.error);
  return { id: named(given.id), do: named(given.do), problem };
}
