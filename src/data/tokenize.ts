import { UserError } from "../support/errors.js";
import { quoteName } from "../support/plainText.js";
import { type Conversation, type Message, type Sample, type Tokens, toSample } from "./format.js";
import type { Row } from "./row.js";
import type { Tokenizer } from "./tokenizer.js";

/** Tokens of one example. A label is the token itself, or -100 where it gives no loss; labels are not shifted. */
export interface Example {
  inputIds: Int32Array; // [T]
  labels: Int32Array; // [T]
  /** Where it stands, for messages: `file:line`. */
  sources?: readonly string[];
}

/** Training arguments of these names. */
export interface TokenizeOptions {
  /** Tokens of an example at most; null: no limit of its own. */
  max_length: number | null;
  truncation_mode: "keep_start" | "keep_end";
  /** null: on for prompt/completion rows, off for others. */
  completion_only_loss: boolean | null;
  assistant_only_loss: boolean;
  dataset_text_field: string;
  /** null: the tokenizer's own. */
  eos_token: string | null;
  /** Positions of the model: examples are cut there when max_length allows more. */
  max_positions?: number;
  /** The examples are going to be packed: none is cut or left out here. */
  packing?: boolean;
}

/** What a row is in, for whoever watches the work from another thread. */
export type Stage = "template" | "tokenizer";

/** What happened to the rows, for the run to tell. All are numbers of rows, but for the last three. */
export interface TokenizeReport {
  rows: number;
  /** Cut to max_length. */
  truncated: number;
  /** Cut to the model's positions, because max_length is longer (or null). */
  cutToPositions: number;
  /**
   * Left out, because no token of them is predicted (after cutting): all are masked, or all but the first, which no token
   * stands before.
   */
  droppedFullyMasked: number;
  /** Whose prompt's tokens are not the first tokens of prompt + completion: as in TRL, as many are masked. */
  promptNotPrefix: number;
  /** Of them, those whose chat template writes the prompt alone otherwise than in the whole: the mask is wrong. */
  promptRewritten: number;
  /** Whose own text holds the written form of a special token, which became that token. */
  specialTokensInText: number;
  /** Texts of another column than "text": as in TRL, they get no EOS. */
  withoutEos: number;
  /** Roles other than system, user, assistant, tool and developer: the chat template may not know them. */
  unusualRoles: string[];
  /** Tokens of all examples, and how many of them give a loss: the first of an example never does. */
  tokens: number;
  labels: number;
}

export interface TokenizedDataset {
  examples: Example[];
  report: TokenizeReport;
}

const IGNORE = -100;
const USUAL_ROLES = new Set(["system", "user", "assistant", "tool", "developer"]);

/**
 * Turns rows into tokens and labels as TRL 1.13's SFTTrainer does, in the order of the rows. It runs the chat template and
 * the patterns of the model folder, which may take for ever: a run calls it in a thread of its own (tokenizePool.ts).
 * @throws UserError that names the row for data that does not fit its format or the options, and when no row gives a loss
 */
export function tokenizeDataset(
  rows: readonly Row[],
  tokenizer: Tokenizer,
  options: TokenizeOptions,
): TokenizedDataset {
  return checkLearnable(tokenizeRows(rows, tokenizer, options), options);
}

/**
 * As `tokenizeDataset`, for some of the rows: that none of them gives a loss is no error.
 * @param onStage told before each piece of work on a row that may take long
 */
export function tokenizeRows(
  rows: readonly Row[],
  tokenizer: Tokenizer,
  options: TokenizeOptions,
  onStage: (row: number, stage: Stage) => void = () => {},
): TokenizedDataset {
  const chosen = options.eos_token === null ? tokenizer : tokenizer.withEosToken(options.eos_token);
  const worker = new DatasetTokenizer(chosen, options, onStage);
  for (const row of rows) worker.add(row);
  return worker.finish();
}

/** The parts of one dataset, in order, as one. */
export function joinTokenized(parts: readonly TokenizedDataset[]): TokenizedDataset {
  const roles = new Set(parts.flatMap(({ report }) => report.unusualRoles));
  const sum = (field: keyof Omit<TokenizeReport, "unusualRoles">) =>
    parts.reduce((total, { report }) => total + report[field], 0);
  return {
    examples: parts.flatMap(({ examples }) => examples),
    report: {
      rows: sum("rows"),
      truncated: sum("truncated"),
      cutToPositions: sum("cutToPositions"),
      droppedFullyMasked: sum("droppedFullyMasked"),
      promptNotPrefix: sum("promptNotPrefix"),
      promptRewritten: sum("promptRewritten"),
      specialTokensInText: sum("specialTokensInText"),
      withoutEos: sum("withoutEos"),
      unusualRoles: [...roles].sort(),
      tokens: sum("tokens"),
      labels: sum("labels"),
    },
  };
}

/** @throws UserError when no row gives a loss */
export function checkLearnable(
  dataset: TokenizedDataset,
  { max_length, max_positions }: Pick<TokenizeOptions, "max_length" | "max_positions">,
): TokenizedDataset {
  const { examples, report } = dataset;
  if (examples.length > 0 && report.labels > 0) return dataset;
  const limit = Math.min(max_length ?? Infinity, max_positions ?? Infinity);
  const most = max_positions === undefined ? "" : ` (the model has ${max_positions} positions)`;
  const advice =
    report.truncated + report.cutToPositions > 0
      ? `They were cut to ${limit} tokens, and nothing of what is to be learned remained. Raise max_length${most}, ` +
        "shorten the prompts, or set truncation_mode: keep_end."
      : "Nothing in them is to be learned. Check the dataset, and completion_only_loss and assistant_only_loss.";
  throw new UserError(`none of the ${report.rows} rows of the dataset has a token that gives a loss. ${advice}`);
}

/** Tokens of a row before cutting; `learn[i]` is 0 where token i gives no loss. */
interface Masked {
  ids: number[];
  learn: Uint8Array;
}

class DatasetTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #options: TokenizeOptions;
  readonly #onStage: (row: number, stage: Stage) => void;
  readonly #examples: Example[] = [];
  readonly #roles = new Set<string>();
  readonly #report: TokenizeReport = {
    rows: 0,
    truncated: 0,
    cutToPositions: 0,
    droppedFullyMasked: 0,
    promptNotPrefix: 0,
    promptRewritten: 0,
    specialTokensInText: 0,
    withoutEos: 0,
    unusualRoles: [],
    tokens: 0,
    labels: 0,
  };

  constructor(tokenizer: Tokenizer, options: TokenizeOptions, onStage: (row: number, stage: Stage) => void) {
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#onStage = onStage;
  }

  add(row: Row): void {
    this.#report.rows++;
    const sample = toSample(row, {
      textField: this.#options.dataset_text_field,
      hasChatTemplate: this.#tokenizer.hasChatTemplate,
    });
    let masked: Masked;
    try {
      masked = this.#tokenize(sample);
    } catch (error) {
      if (error instanceof UserError)
        throw new UserError(`${row.source}: ${error.message}`, { cause: error, code: "invalid_data" });
      throw error;
    }
    const example = this.#cut(masked);
    if (example === undefined) this.#report.droppedFullyMasked++;
    else this.#examples.push({ ...example, sources: [row.source] });
  }

  finish(): TokenizedDataset {
    return { examples: this.#examples, report: { ...this.#report, unusualRoles: [...this.#roles].sort() } };
  }

  #tokenize(sample: Sample): Masked {
    if (sample.kind === "conversation") return this.#conversation(sample);
    if (sample.kind === "tokens") return this.#tokens(sample);
    if (this.#options.assistant_only_loss) {
      throw new UserError(
        "assistant_only_loss: true needs conversations (messages), but this row is " +
          `${sample.kind === "text" ? "a plain text" : "a plain prompt and completion"}. Remove the option.`,
      );
    }
    if (sample.kind === "text") {
      this.#refuseCompletionOnly("a plain text");
      this.#countSpecialText([withoutEnd(sample.text, this.#tokenizer.eosToken)]);
      if (!sample.endWithEos) this.#report.withoutEos++;
      const ids = this.#encode(sample.endWithEos ? this.#withEos(sample.text) : sample.text);
      return { ids, learn: new Uint8Array(ids.length).fill(1) };
    }
    const { prompt, completion } = sample;
    this.#countSpecialText([prompt, withoutEnd(completion, this.#tokenizer.eosToken)]);
    const ids = this.#encode(prompt + this.#withEos(completion));
    const learn = new Uint8Array(ids.length).fill(1);
    this.#maskPrompt(this.#encode(prompt), { ids, learn });
    return { ids, learn };
  }

  /** As in TRL, labels that are there stand above all options, and the assistant's mask above `assistant_only_loss`. */
  #tokens({ ids, labels, assistant, completion }: Tokens): Masked {
    const learn = new Uint8Array(ids.length).fill(1);
    if (labels) return { ids, learn: learn.map((_, i) => (labels[i] === -100 ? 0 : 1)) };
    if (this.#options.assistant_only_loss && !assistant) {
      throw new UserError(
        "assistant_only_loss: true, but this row is tokens, and has neither labels nor assistant_masks. Give it one of them, or remove the option.",
      );
    }
    const byCompletion = this.#options.completion_only_loss === true;
    if (byCompletion && !completion) this.#refuseCompletionOnly("tokens without completion_mask");
    const masks = [assistant, byCompletion ? completion : undefined];
    for (const mask of masks) if (mask) for (const [i, bit] of mask.entries()) learn[i]! &= bit;
    return { ids, learn };
  }

  #conversation({ messages, promptLength, tools, templateArgs }: Conversation): Masked {
    for (const { role } of messages) if (!USUAL_ROLES.has(role)) this.#roles.add(role);
    this.#countSpecialText(messages.map(({ content }) => content ?? ""));
    if (promptLength === undefined) this.#refuseCompletionOnly("a whole conversation");
    const render = { ...templateArgs, tools };
    this.#at("template");
    const whole = this.#options.assistant_only_loss
      ? this.#tokenizer.renderMarkedChat(messages, render)
      : { text: this.#tokenizer.renderChat(messages, render), spans: undefined };
    this.#at("tokenizer");
    const masked = whole.spans
      ? this.#assistantOnly(this.#tokenizer.encodeMarked(whole), messages)
      : this.#everything(whole.text);
    if (promptLength !== undefined) {
      this.#at("template");
      const prompt = this.#tokenizer.renderChat(messages.slice(0, promptLength), {
        ...render,
        addGenerationPrompt: true,
        marked: this.#options.assistant_only_loss,
      });
      if ((this.#options.completion_only_loss ?? true) && !whole.text.startsWith(prompt))
        this.#report.promptRewritten++;
      this.#maskPrompt(this.#encode(prompt, { addSpecialTokens: false }), masked);
    }
    return masked;
  }

  #at(stage: Stage): void {
    this.#onStage(this.#report.rows - 1, stage);
  }

  #encode(text: string, options?: { addSpecialTokens: boolean }): number[] {
    this.#at("tokenizer");
    return this.#tokenizer.encode(text, options);
  }

  #everything(text: string): Masked {
    const ids = this.#encode(text, { addSpecialTokens: false });
    return { ids, learn: new Uint8Array(ids.length).fill(1) };
  }

  #assistantOnly({ ids, mask }: { ids: number[]; mask: Uint8Array }, messages: readonly Message[]): Masked {
    if (mask.includes(1)) return { ids, learn: mask };
    const roles = [...new Set(messages.map(({ role }) => role))];
    throw new UserError(
      roles.includes("assistant")
        ? "assistant_only_loss: true, but the {% generation %} blocks of the chat template " +
            `(${this.#tokenizer.chatTemplateFiles}) hold nothing of this conversation, though it has a turn of the ` +
            "assistant. Put them around what the assistant says."
        : 'assistant_only_loss: true, but the conversation has no turn of the role "assistant": its roles are ' +
            `${roles.map(quoteName).join(", ")}. Rename them, or leave the row out.`,
    );
  }

  #maskPrompt(prompt: number[], { ids, learn }: Masked): void {
    if (prompt.some((id, i) => ids[i] !== id)) this.#report.promptNotPrefix++;
    if (this.#options.completion_only_loss ?? true) learn.fill(0, 0, prompt.length);
  }

  #withEos(text: string): string {
    const eos = this.#tokenizer.eosToken;
    if (eos === undefined) {
      throw new UserError(
        "the model's tokenizer names no end-of-sequence token, which must end the text. Set training_args.eos_token.",
      );
    }
    return text.endsWith(eos) ? text : text + eos;
  }

  #refuseCompletionOnly(what: string): void {
    if (this.#options.completion_only_loss !== true) return;
    throw new UserError(
      `completion_only_loss: true needs prompt/completion rows, but this row is ${what}. Remove the option` +
        `${what === "a plain text" ? "." : ", or use assistant_only_loss: true."}`,
    );
  }

  #countSpecialText(texts: string[]): void {
    if (texts.some((text) => this.#tokenizer.hasSpecialText(text))) this.#report.specialTokensInText++;
  }

  #cut({ ids, learn }: Masked): Example | undefined {
    const { max_length, max_positions = Infinity, truncation_mode, packing = false } = this.#options;
    const limit = packing ? Infinity : Math.min(max_length ?? Infinity, max_positions);
    if (ids.length > limit) this.#report[limit === max_length ? "truncated" : "cutToPositions"]++;
    const length = Math.min(ids.length, limit);
    const start = truncation_mode === "keep_start" ? 0 : ids.length - length;
    const inputIds = new Int32Array(length);
    const labels = new Int32Array(length).fill(IGNORE);
    let predicted = 0;
    for (let i = 0; i < length; i++) {
      inputIds[i] = ids[start + i]!;
      if (learn[start + i] === 0) continue;
      labels[i] = ids[start + i]!;
      if (i > 0) predicted++;
    }
    if (predicted === 0 && !packing) return undefined;
    this.#report.tokens += length;
    this.#report.labels += predicted;
    return { inputIds, labels };
  }
}

/** The end-of-sequence token that a text already has at its end is no surprise. */
const withoutEnd = (text: string, end: string | undefined) =>
  end !== undefined && text.endsWith(end) ? text.slice(0, -end.length) : text;
