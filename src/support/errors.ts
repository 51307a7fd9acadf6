import { shown } from "./plainText.js";

/** What kind of thing is to be mended, for programs that react to it. */
export type UserErrorCode =
  /** An option of a call, a config or the command line is wrong. */
  | "invalid_option"
  /** A config file is wrong. */
  | "invalid_config"
  /** Rows of a dataset are wrong. */
  | "invalid_data"
  /** Memory, on the machine or the GPU, does not suffice. */
  | "out_of_memory"
  /** A loss, gradient or weight is NaN or infinite. */
  | "not_finite"
  /** `output_dir` is in use, holds other results, or cannot be written. */
  | "output_dir"
  /** Anything else: a broken file, a missing library, a server that does not answer. */
  | "other";

/** One of the things that are wrong. */
export interface UserErrorIssue {
  /** The option (`training_args.optim`, `dataset[1].path`) or the file with its line (`data.jsonl:12`); "" where neither is named. */
  readonly path: string;
  /** What is wrong with it, and what to do. */
  readonly message: string;
}

export interface UserErrorOptions extends ErrorOptions {
  code?: UserErrorCode;
  /** Where several things are wrong at once. Default: the one that the message tells. */
  issues?: readonly UserErrorIssue[];
}

/**
 * A failure that the user can mend: a wrong option, a broken file, a missing library.
 * The message names the option or file, the value found and what to do; the CLI prints it without a stack. What files
 * wrote into it cannot command a terminal.
 */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly code: UserErrorCode;
  /** All that is wrong, at least one. */
  readonly issues: readonly UserErrorIssue[];

  constructor(message: string, { code, issues, ...options }: UserErrorOptions = {}) {
    super(shown(message), options);
    this.issues = issues ?? [issueOf(this.message)];
    this.code = code ?? codeOf(this.path);
  }

  /** The option or the file that the first issue is about; "" where it names neither. */
  get path(): string {
    return this.issues[0]?.path ?? "";
  }
}

/** Messages begin with the place: `output_dir: ...`, `data.jsonl:12: ...`, `training_args.optim: ...`. */
function issueOf(message: string): UserErrorIssue {
  const found = /^(?:dataset |model folder )?([^\s:]+(?::\d+)?): ([\s\S]*)$/.exec(message);
  return found ? { path: found[1]!, message: found[2]! } : { path: "", message };
}

const OPTION = /^[a-z]\w*(\.\w+|\[\d+\])*$/i;
const IN_DATA = /^(eval_)?dataset\b.*\[\d+\]$|\.(jsonl|ndjson|json|csv)(\.gz)?(:\d+|\[\d+\])$/i;

function codeOf(path: string): UserErrorCode {
  if (path === "output_dir") return "output_dir";
  if (IN_DATA.test(path)) return "invalid_data";
  return OPTION.test(path) ? "invalid_option" : "other";
}
