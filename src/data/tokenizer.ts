import { UserError } from "../support/errors.js";
import { alignTokens, markTokens } from "./align.js";
import { ChatTemplate, type MarkedText, type RenderOptions } from "./chatTemplate.js";
import type { Message } from "./format.js";
import { StreamDecoder } from "./stream.js";
import { readTokenizerFiles, type TokenizerFiles } from "./tokenizerFiles.js";
import { type LibraryTokenizer, makeLibraryTokenizer } from "./tokenizerLibrary.js";

/** What runs the patterns of a tokenizer.json, which anybody wrote: made when it is first needed. */
interface Engine {
  library: LibraryTokenizer;
  /** Finds the written form of a special token. */
  specialPattern: RegExp | undefined;
  surface: (token: string) => Uint8Array;
}

/** The tokenizer of a model folder, with its special tokens and chat template, as transformers 5 loads it. */
export class Tokenizer {
  readonly #engine: () => Engine;
  readonly #files: TokenizerFiles;
  readonly #template: ChatTemplate | undefined;
  /** Of the model that it came with. */
  readonly folder: string;
  readonly #specialIds: Set<number>;

  private constructor(
    folder: string,
    files: TokenizerFiles,
    engine: () => Engine,
    template = files.chatTemplates.size === 0 ? undefined : new ChatTemplate(files.chatTemplates, files.special),
  ) {
    this.folder = folder;
    this.#files = files;
    this.#engine = engine;
    this.#template = template;
    this.#specialIds = new Set(specialTokens(files).map((token) => token.id));
  }

  /**
   * Loads the tokenizer of a model folder.
   * @throws UserError when its files are missing, broken, or of a kind that cannot be used.
   */
  static async load(folder: string): Promise<Tokenizer> {
    const tokenizer = await Tokenizer.open(folder);
    tokenizer.#engine();
    return tokenizer;
  }

  /**
   * As `load`, but runs nothing of what the folder holds before a text is encoded or decoded: for a thread that nobody
   * can end, to ask what the special tokens are.
   */
  static async open(folder: string): Promise<Tokenizer> {
    const files = await readTokenizerFiles(folder);
    let engine: Engine | undefined;
    return new Tokenizer(folder, files, () => (engine ??= makeEngine(folder, files)));
  }

  /**
   * The same tokenizer with another end-of-sequence token (the training argument `eos_token`).
   * @throws UserError when the vocabulary has no such token.
   */
  withEosToken(token: string): Tokenizer {
    if (!this.#files.ids.has(token)) {
      throw new UserError(
        `training_args.eos_token: the tokenizer's vocabulary has no token "${token}" (${this.folder})`,
      );
    }
    const files = { ...this.#files, special: { ...this.#files.special, eos_token: token } };
    return new Tokenizer(this.folder, files, this.#engine, this.#template?.withVariables({ eos_token: token }));
  }

  /**
   * Token ids of a text. Special tokens written out in the text become those tokens.
   * `addSpecialTokens` (default true) adds what the model's tokenizer puts around a text, such as BOS.
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    return this.#encode(text, options.addSpecialTokens ?? true).ids;
  }

  /** Text of token ids. Ids that are not in the vocabulary are left out. */
  decode(ids: Iterable<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const { library } = this.#engine();
    const known: number[] = [];
    for (const id of ids) {
      if (options.skipSpecialTokens && this.#specialIds.has(id)) continue;
      if (library.id_to_token(id) !== undefined) known.push(id);
    }
    if (known.length === 0) return "";
    return library.decode(known, { clean_up_tokenization_spaces: this.#files.cleanUp });
  }

  /** Decodes tokens one by one, for text that appears as it is made. */
  streamDecoder(options: { skipSpecialTokens?: boolean } = {}): StreamDecoder {
    return new StreamDecoder((ids) => this.decode(ids, options));
  }

  /** Token ids of a text without added special tokens, and a mask (1 = inside) of the stretches given. */
  encodeMarked({ text, spans }: MarkedText): { ids: number[]; mask: Uint8Array } {
    let encoded = this.#encode(text, false);
    const { surface } = this.#engine();
    const surfaces = (tokens: string[]) => tokens.map(surface);
    let starts = alignTokens(text, surfaces(encoded.tokens));
    if (starts !== undefined) return { ids: encoded.ids, mask: markTokens(text, starts, spans) };
    // The tokenizer may change the text first (Unicode normalisation): then the stretches of the changed text count.
    const normalised = this.#normalise({ text, spans });
    encoded = this.#encode(normalised.text, false);
    starts = alignTokens(normalised.text, surfaces(encoded.tokens));
    if (starts === undefined || encoded.ids.join() !== this.#encode(text, false).ids.join()) {
      throw new UserError(
        "assistant_only_loss: this tokenizer's tokens cannot be matched with the text of the conversation (unknown " +
          "tokens, or a normaliser that changes the text). Use prompt/completion data.",
      );
    }
    return { ids: encoded.ids, mask: markTokens(normalised.text, starts, normalised.spans) };
  }

  /** Whether a text holds the written form of a special token, which `encode` turns into that token. */
  hasSpecialText(text: string): boolean {
    return this.#engine().specialPattern?.test(text) ?? false;
  }

  /** The files of the chat templates, for messages. */
  get chatTemplateFiles(): string {
    return [...new Set(Array.from(this.#files.chatTemplates.values(), ({ file }) => file))].join(", ");
  }

  /** Whether the model folder has a chat template. */
  get hasChatTemplate(): boolean {
    return this.#template !== undefined;
  }

  /**
   * Text of a conversation by the model's chat template. Other options are variables of the template.
   * @throws UserError when there is no template, or it refuses the conversation.
   */
  renderChat(messages: Message[], options: RenderOptions = {}): string {
    return this.#chatTemplate().render(messages, options);
  }

  /** As `renderChat`, with the stretches that the assistant said. */
  renderMarkedChat(messages: Message[], options: RenderOptions = {}): MarkedText {
    return this.#chatTemplate().renderMarked(messages, options);
  }

  get eosToken(): string | undefined {
    return this.#files.special.eos_token;
  }
  get eosTokenId(): number | undefined {
    return this.#idOf("eos_token");
  }
  get bosToken(): string | undefined {
    return this.#files.special.bos_token;
  }
  get bosTokenId(): number | undefined {
    return this.#idOf("bos_token");
  }
  /** The padding token's id, or EOS's where the model has no padding token, as in TRL. */
  get padTokenId(): number | undefined {
    return this.#idOf("pad_token") ?? this.eosTokenId;
  }

  /** The number of tokens: the highest id + 1. A model may have more rows in its embedding, not fewer. */
  get vocabSize(): number {
    return this.#engine().library.model.vocab.length;
  }

  #idOf(name: string): number | undefined {
    const token = this.#files.special[name];
    return token === undefined ? undefined : this.#files.ids.get(token);
  }

  #encode(text: string, addSpecialTokens: boolean): { ids: number[]; tokens: string[] } {
    const { ids, tokens } = this.#engine().library.encode(text, { add_special_tokens: addSpecialTokens });
    const unknown = ids.indexOf(undefined);
    if (unknown < 0) return { ids: ids as number[], tokens };
    throw new UserError(
      `${this.folder}/tokenizer.json: the vocabulary has no token "${tokens[unknown]}" and no unknown token`,
    );
  }

  #normalise({ text, spans }: MarkedText): MarkedText {
    const normalise = (part: string) => this.#engine().library.normalizer?.(part) ?? part;
    let result = "";
    let at = 0;
    const moved: [number, number][] = [];
    for (const [start, end] of spans) {
      result += normalise(text.slice(at, start));
      const from = result.length;
      result += normalise(text.slice(start, end));
      moved.push([from, result.length]);
      at = end;
    }
    return { text: result + normalise(text.slice(at)), spans: moved };
  }

  #chatTemplate(): ChatTemplate {
    if (this.#template !== undefined) return this.#template;
    throw new UserError(
      `model folder ${this.folder}: there is no chat template, which conversations need. Put the template of a chat ` +
        "model of this family into it as chat_template.jinja, or use prompt/completion or text data.",
    );
  }
}

const specialTokens = ({ tokenizer }: TokenizerFiles) => tokenizer.added_tokens.filter((token) => token.special);

function makeEngine(folder: string, files: TokenizerFiles): Engine {
  const contents = specialTokens(files)
    .map((token) => token.content)
    .filter((content) => content !== "");
  try {
    return {
      library: makeLibraryTokenizer(files.tokenizer),
      specialPattern: contents.length === 0 ? undefined : new RegExp(contents.map(escapeRegExp).join("|"), "u"),
      surface: surfaceOf(files),
    };
  } catch (error) {
    throw new UserError(`${folder}/tokenizer.json: cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

const escapeRegExp = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** How a token reads in the text, in bytes. */
function surfaceOf({ tokenizer }: TokenizerFiles): (token: string) => Uint8Array {
  const encoder = new TextEncoder();
  const added = new Set(tokenizer.added_tokens.map((token) => token.content));
  const usesBytes = JSON.stringify([tokenizer.pre_tokenizer, tokenizer.decoder]).includes('"ByteLevel"');
  const bytesOf = usesBytes ? byteLevelBytes() : undefined;
  const spell = (token: string): Uint8Array => {
    if (added.has(token)) return encoder.encode(token);
    if (bytesOf !== undefined) return Uint8Array.from(token, (char) => bytesOf.get(char) ?? 0);
    const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
    return byte === undefined ? encoder.encode(token.replaceAll("▁", " ")) : Uint8Array.of(Number.parseInt(byte, 16));
  };
  const surfaces = new Map<string, Uint8Array>();
  return (token) => {
    let surface = surfaces.get(token);
    if (surface === undefined) {
      surface = spell(token);
      surfaces.set(token, surface);
    }
    return surface;
  };
}

/** GPT-2's printable stand-ins for bytes: itself where it prints, else the next free character from U+0100 on. */
function byteLevelBytes(): Map<string, number> {
  const bytes = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    bytes.set(String.fromCharCode(prints ? byte : next++), byte);
  }
  return bytes;
}
