/** Text from a model: many prompts at once, or one as a stream. */

import { readdir } from "node:fs/promises";
import type { Message } from "../data/format.js";
import { Tokenizer } from "../data/tokenizer.js";
import { TOKENIZER } from "../files/modelFolder.js";
import { resolveModel } from "../hub/index.js";
import type { CausalLM } from "../models/causalLM.js";
import { generationStops } from "../models/generationConfig.js";
import { precisionFor } from "../models/precision.js";
import { type QuantizationConfigInput, quantizationFor } from "../models/quantization.js";
import { loadAdapted } from "../peft/loadAdapted.js";
import { UserError } from "../support/errors.js";
import { chooseDevice, type DeviceChoice, manualSeed } from "../torch/index.js";
import { bounded } from "./bounded.js";
import { chooseTokens, type SamplingOptions } from "./choose.js";
import { Session } from "./session.js";

/** The model that is to answer. */
export interface GeneratorSource {
  /** A model folder in Hugging Face format, or a hub id. */
  model: string;
  /** A PEFT adapter on it: a folder or a hub id. */
  adapter?: string;
  /** Compute on the CPU even where there is a GPU. */
  use_cpu?: boolean;
  /** cuda fails where there is no GPU. Absent: a GPU where there is one. */
  device?: DeviceChoice;
  /** The model's weights in 4 or 8 bits; the compute dtype decides the arithmetic. */
  quantization?: QuantizationConfigInput;
}

/** How to answer. */
export interface GenerationOptions extends SamplingOptions {
  /** Tokens of an answer at most. Default: 256. */
  max_new_tokens?: number;
  /** Of the draws, with `do_sample`. Default: the generator goes on from where it is. */
  seed?: number;
}

/** A prompt as text, or a conversation that the model's chat template turns into one. */
export type Prompt = string | Message[];

/** A model in memory that answers. */
export class TextGenerator {
  readonly tokenizer: Tokenizer;
  readonly #model: CausalLM;
  readonly #stops: ReadonlySet<number>;
  readonly #borrowed: boolean;

  /** @param borrowed the model is another's, who frees it */
  constructor(model: CausalLM, tokenizer: Tokenizer, stops: Iterable<number>, { borrowed = false } = {}) {
    this.#borrowed = borrowed;
    this.#model = model;
    this.tokenizer = tokenizer;
    this.#stops = new Set(stops);
  }

  /** Answers to all prompts, computed together; special tokens are left out of the texts. */
  async complete(prompts: readonly Prompt[], options: GenerationOptions = {}): Promise<string[]> {
    const answers = prompts.map(() => [] as number[]);
    for await (const { row, id } of this.#tokens(prompts, options)) answers[row]!.push(id);
    return answers.map((ids) => this.tokenizer.decode(ids, { skipSpecialTokens: true }));
  }

  /** The answer to one prompt, piece by piece. */
  async *stream(prompt: Prompt, options: GenerationOptions = {}): AsyncGenerator<string> {
    const decoder = this.tokenizer.streamDecoder({ skipSpecialTokens: true });
    for await (const { id } of this.#tokens([prompt], options)) {
      const piece = decoder.push(id);
      if (piece) yield piece;
    }
    const rest = decoder.flush();
    if (rest) yield rest;
  }

  /** Frees the model; that of a Trainer stays the Trainer's. */
  dispose(): void {
    if (!this.#borrowed) this.#model.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #encode(prompt: Prompt): Int32Array {
    const ids = bounded(this.tokenizer.folder, () =>
      typeof prompt === "string"
        ? this.tokenizer.encode(prompt, { addSpecialTokens: true })
        : this.tokenizer.encode(this.tokenizer.renderChat(prompt, { addGenerationPrompt: true }), {
            addSpecialTokens: false,
          }),
    );
    const { maxPositions, vocabSize } = this.#model.description;
    const foreign = ids.find((id) => id >= vocabSize);
    if (foreign !== undefined) {
      throw new UserError(
        `model: its tokenizer gives the id ${foreign}, but config.json says vocab_size ${vocabSize}. The tokenizer belongs to another model.`,
      );
    }
    if (ids.length === 0) throw new UserError("prompt: it is empty");
    if (ids.length >= maxPositions) {
      throw new UserError(`prompt: it has ${ids.length} tokens; the model has ${maxPositions} positions. Shorten it.`);
    }
    return Int32Array.from(ids);
  }

  /** Tokens as they come; a row that ended gives none. */
  async *#tokens(prompts: readonly Prompt[], options: GenerationOptions): AsyncGenerator<{ row: number; id: number }> {
    if (prompts.length === 0) return;
    const encoded = prompts.map((prompt) => this.#encode(prompt));
    const longest = Math.max(...encoded.map(({ length }) => length));
    const limit = Math.min(options.max_new_tokens ?? 256, this.#model.description.maxPositions - longest);
    if (options.seed !== undefined) manualSeed(options.seed);
    const ended = prompts.map(() => false);
    const session = new Session(this.#model, encoded);
    try {
      let logits = session.start();
      for (let count = 1; ; count++) {
        const ids = await chooseTokens(logits, prompts.length, options);
        for (const [row, id] of ids.entries()) {
          if (this.#stops.has(id)) ended[row] = true;
          if (!ended[row]) yield { row, id };
        }
        if (count >= limit || ended.every(Boolean)) return;
        logits = session.step(ids);
      }
    } finally {
      session.dispose();
    }
  }
}

/** Loads a model, and an adapter on it, for generation. @throws UserError naming what is wrong with either */
export async function loadGenerator({
  model: name,
  adapter,
  use_cpu = false,
  device: choice,
  quantization: config,
}: GeneratorSource): Promise<TextGenerator> {
  const dtype = config?.bnb_4bit_compute_dtype;
  const asked = { bf16: dtype === "bfloat16", fp16: dtype === "float16" };
  const quantization = quantizationFor(config, { frozen: true, ...asked });
  const folder = await resolveModel(name);
  const adapterFolder = adapter === undefined ? undefined : await resolveModel(adapter);
  const tokenizer = await Tokenizer.load(await tokenizerFolder(folder, adapterFolder));
  const device = chooseDevice(use_cpu, choice);
  const precision = precisionFor(asked, device);
  const model = await loadAdapted(folder, adapterFolder, { precision, device, quantization });
  try {
    return await generatorFor(model, folder, tokenizer);
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** An adapter that was saved with its tokenizer was trained with that: its chat template, its token that ends an answer. */
async function tokenizerFolder(model: string, adapter: string | undefined): Promise<string> {
  const names = adapter === undefined ? [] : await readdir(adapter);
  return names.includes(TOKENIZER) ? adapter! : model;
}

/** Generation with a model that is in memory; `folder` is the one of its base model. */
export async function generatorFor(
  model: CausalLM,
  folder: string,
  tokenizer: Tokenizer,
  options?: { borrowed: boolean },
): Promise<TextGenerator> {
  const stops = new Set([...model.description.eosTokenIds, ...(await generationStops(folder))]);
  if (tokenizer.eosTokenId !== undefined) stops.add(tokenizer.eosTokenId);
  return new TextGenerator(model, tokenizer, stops, options);
}

/** A model, a prompt (or a conversation), and how to answer. */
export type GenerateOptions = GeneratorSource &
  GenerationOptions &
  ({ prompt: string /** Leave the chat template out. */; raw?: boolean } | { messages: Message[]; raw?: false });

/** Loads, answers one prompt as a stream, and frees everything. A prompt is put into the chat template if there is one. */
export async function* generate(options: GenerateOptions): AsyncGenerator<string> {
  const generator = await loadGenerator(options);
  try {
    let prompt: Prompt;
    if ("messages" in options) prompt = options.messages;
    else if (options.raw || !generator.tokenizer.hasChatTemplate) prompt = options.prompt;
    else prompt = [{ role: "user", content: options.prompt }];
    yield* generator.stream(prompt, options);
  } finally {
    generator.dispose();
  }
}
