/** Follows the lines of control.jsonl, and answers each. */
import { type BadLine, type ControlAnswer, type ControlLine, ControlReader } from "../runFolder/control.js";
import type { Requests } from "./requests.js";

/** Lines are looked for between updates, and this often in pauses and evaluations. */
const EVERY_MS = 250;

type Answer = (answer: ControlAnswer) => void;

export class ControlFile {
  readonly #reader: ControlReader;
  readonly #requests: Requests;
  readonly #step: () => number;
  readonly #answer: Answer;
  readonly #timer: NodeJS.Timeout;
  #polling: Promise<void> = Promise.resolve();
  readonly #unanswered = new Set<Promise<void>>();

  private constructor(reader: ControlReader, requests: Requests, step: () => number, answer: Answer) {
    this.#reader = reader;
    this.#requests = requests;
    this.#step = step;
    this.#answer = answer;
    this.#timer = setInterval(() => this.poll(), EVERY_MS);
    this.#timer.unref();
  }

  /** @param step finished updates, for the answers */
  static async open(folder: string, requests: Requests, step: () => number, answer: Answer): Promise<ControlFile> {
    return new ControlFile(await ControlReader.open(folder), requests, step, answer);
  }

  /** Takes up the lines that came; settles when the requests are made, not when they are met. */
  poll(): Promise<void> {
    this.#polling = this.#polling.then(async () => {
      for (const line of await this.#reader.poll()) this.#take(line);
    });
    return this.#polling;
  }

  /** After the end of the run: every line that came has its answer. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.poll();
    await Promise.all(this.#unanswered);
  }

  #take(line: ControlLine | BadLine): void {
    const answered = this.#follow(line).then(
      (message) => this.#tell(line, true, message),
      (error: Error) => this.#tell(line, false, error.message),
    );
    this.#unanswered.add(answered);
    answered.finally(() => this.#unanswered.delete(answered));
  }

  async #follow(line: ControlLine | BadLine): Promise<string> {
    if ("problem" in line) throw new Error(line.problem);
    if (this.#requests.over) throw new Error("the run is over");
    switch (line.do) {
      case "pause":
        this.#requests.pause();
        return "pauses after the update at hand";
      case "resume":
        this.#requests.resume();
        return "goes on";
      case "stop":
        this.#requests.stop();
        return "saves a checkpoint and stops after the update at hand";
      case "save":
        return `saved ${await this.#requests.saveNow()}`;
      case "evaluate": {
        const metrics = Object.entries(await this.#requests.evaluateNow());
        return metrics.map(([name, value]) => `${name} ${value}`).join(", ");
      }
      case "set": {
        const changes = await this.#requests.set(line.values, line.id);
        return changes.map(({ name, from, to }) => `${name} ${to} (was ${from})`).join(", ");
      }
    }
  }

  #tell(line: ControlLine | BadLine, ok: boolean, message: string): void {
    this.#answer({ id: line.id, do: line.do, ok, message, step: this.#step(), time: new Date().toISOString() });
  }
}
