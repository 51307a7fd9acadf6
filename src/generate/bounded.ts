/** Work with a tokenizer that came with a model: its patterns may never end. */
import { runInNewContext } from "node:vm";
import { UserError } from "../support/errors.js";

const SECONDS = 30;

/** @throws UserError naming the model when `work` takes too long: V8 ends a pattern in the middle, too */
export function bounded<T>(model: string, work: () => T, seconds = SECONDS): T {
  try {
    return runInNewContext("work()", { work }, { timeout: seconds * 1000 }) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
    throw new UserError(
      `model: ${model}: its tokenizer or chat template takes more than ${seconds} s for the prompt. A pattern in its tokenizer.json may never end; use the files of the model's author.`,
    );
  }
}
