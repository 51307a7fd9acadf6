/** Rows that a program makes: what each format looks like, and where rows may come from. */

/** One turn of a conversation. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool`, or what the chat template knows. */
  role: string;
  /** What is said; null or absent where the turn only calls tools. Parts are joined: only texts can be learned. */
  content?: string | readonly { type?: string; text: string }[] | null;
  /** What the assistant calls, as the chat template expects it. */
  tool_calls?: readonly unknown[] | null;
  /** Further keys are given to the chat template. */
  [key: string]: unknown;
}

/** What may go with a conversation. */
export interface ConversationExtras {
  /** JSON schemas of the tools that the assistant may call, or their JSON text. */
  tools?: readonly unknown[] | string | null;
  /** Variables for the chat template, of this row alone. */
  chat_template_kwargs?: Record<string, unknown> | null;
}

/** A whole text to learn; the end-of-sequence token is added. */
export interface TextRow {
  text: string;
}

/** A text to answer, and the answer, which alone is learned unless `completion_only_loss` is false. */
export interface PromptCompletionRow {
  prompt: string;
  completion: string;
}

/** The same in turns, which the chat template joins. */
export interface ChatPromptCompletionRow extends ConversationExtras {
  prompt: readonly ChatMessage[];
  completion: readonly ChatMessage[];
}

/** A conversation; every turn is learned, or the assistant's with `assistant_only_loss`. */
export interface MessagesRow extends ConversationExtras {
  messages: readonly ChatMessage[];
}

/** A conversation by ShareGPT's names; roles stay as they are. */
export interface ShareGptRow extends ConversationExtras {
  conversations: readonly { from: string; value: string; [key: string]: unknown }[];
}

/** Alpaca's columns; the output is learned. */
export interface AlpacaRow {
  instruction: string;
  input?: string | null;
  output: string;
}

/** Token ids of your own; only cut or packed. The masks count as in TRL, where there are no labels. */
export interface TokenizedRow {
  input_ids: ArrayLike<number>; // [T]
  /** [T]: the token itself, or -100 where nothing is learned; not shifted. Default: `input_ids`. */
  labels?: ArrayLike<number> | null;
  /** [T]: 1 where it is the assistant's: nothing else is learned. */
  assistant_masks?: ArrayLike<number> | null;
  /** [T]: 1 in the completion; counts with `completion_only_loss: true`. */
  completion_mask?: ArrayLike<number> | null;
}

/** A row of any format that is told from its columns. */
export type DatasetRow =
  | TextRow
  | PromptCompletionRow
  | ChatPromptCompletionRow
  | MessagesRow
  | ShareGptRow
  | AlpacaRow
  | TokenizedRow;

type Items<R> = Iterable<R> | AsyncIterable<R>;

/** An array, any iterable, an async one, or a function that makes one. It is gone through once, when the run begins. */
export type RowSource<R> = Items<R> | (() => Items<R> | Promise<Items<R>>);

/** Rows of one format. */
export type DatasetRows =
  | RowSource<TextRow>
  | RowSource<PromptCompletionRow>
  | RowSource<ChatPromptCompletionRow>
  | RowSource<MessagesRow>
  | RowSource<ShareGptRow>
  | RowSource<AlpacaRow>
  | RowSource<TokenizedRow>;

/** Whether a value is where rows come from, and no name of a file. */
export const isRowSource = (value: unknown): value is RowSource<object> =>
  typeof value === "function" ||
  (typeof value === "object" && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value));

/**
 * The items of a source, at most `limit` of them; what makes them is told when no more are wanted.
 * @param refuse throws for what a function gave and is no source
 * @throws what the source throws, and the signal's reason, also while the source keeps it waiting
 */
export async function collectRows(
  source: RowSource<object>,
  limit = Number.POSITIVE_INFINITY,
  signal?: AbortSignal,
  refuse: (value: unknown) => never = (value) => {
    throw new TypeError(`${value} is not iterable`);
  },
): Promise<unknown[]> {
  const items = await orAborted(Promise.resolve(typeof source === "function" ? source() : source), signal);
  if (typeof items === "function" || !isRowSource(items)) return refuse(items);
  if (Array.isArray(items)) return items.slice(0, limit);
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const rows: unknown[] = [];
  let done = false;
  try {
    while (rows.length < limit) {
      const result = await orAborted(Promise.resolve(iterator.next()), signal);
      if (result.done) {
        done = true;
        break;
      }
      rows.push(result.value);
    }
    return rows;
  } catch (error) {
    done = !signal?.aborted; // what has thrown has ended
    throw error;
  } finally {
    if (!done) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) {
      work.catch(() => {});
      return abort();
    }
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
