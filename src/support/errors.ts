/**
 * A failure that the user can mend: a wrong option, a broken file, a missing library.
 * The message names the option or file, the value found and what to do; the CLI prints it without a stack.
 */
export class UserError extends Error {
  override readonly name = "UserError";
}
