import { shown } from "./plainText.js";

/**
 * A failure that the user can mend: a wrong option, a broken file, a missing library.
 * The message names the option or file, the value found and what to do; the CLI prints it without a stack. What files
 * wrote into it cannot command a terminal.
 */
export class UserError extends Error {
  override readonly name = "UserError";

  constructor(message: string, options?: ErrorOptions) {
    super(shown(message), options);
  }
}
