import { createInterface } from "node:readline/promises";
import { Command } from "commander";
import type { Message } from "../data/format.js";
import { UserError } from "../support/errors.js";
import { shown, tell } from "../support/plainText.js";
import { paintFor } from "../support/terminal.js";
import { noteUnused } from "./generate.js";
import {
  addModelOptions,
  addSamplingOptions,
  type ModelOptions,
  modelOf,
  type SamplingOptions,
  samplingOf,
} from "./modelOptions.js";

interface ChatOptions extends ModelOptions, SamplingOptions {
  system?: string;
}

/** `slimtune chat RUN`: a conversation with a trained model, on a terminal. */
export function chatCommand(): Command {
  const command = new Command("chat")
    .description("talk with a trained model")
    .option("--system <text>", "system message of the conversation");
  return addSamplingOptions(addModelOptions(command)).action(async (_: unknown, options: ChatOptions) =>
    runChat(command, options),
  );
}

const HELP = "An empty line or Ctrl-D ends the conversation, /new begins another one.";

/** A line is asked, an answer streams; the whole conversation is in the prompt. */
async function runChat(command: Command, options: ChatOptions): Promise<void> {
  const sampling = samplingOf(options);
  noteUnused(sampling);
  const source = await modelOf("chat", command, options);
  const { loadGenerator } = await import("../generate/index.js");
  const generator = await loadGenerator(source);
  const { bold, dim } = paintFor(process.stdout);
  const toTerminal = process.stdout.isTTY === true;
  const system: Message[] = options.system === undefined ? [] : [{ role: "system", content: options.system }];
  const lines = createInterface({ input: process.stdin, output: toTerminal ? process.stdout : undefined });
  try {
    const remembers = generator.tokenizer.hasChatTemplate;
    if (!remembers && options.system !== undefined) {
      throw new UserError("--system needs a chat template, which this model has not");
    }
    if (!remembers) tell("Note: this model has no chat template, so that each line is a prompt of its own.");
    if (toTerminal) process.stdout.write(`${dim(HELP)}\n`);
    let conversation = [...system];
    lines.setPrompt(bold("> "));
    if (toTerminal) lines.prompt();
    for await (const line of lines) {
      if (line.trim() === "") break;
      if (line.trim() === "/new") {
        conversation = [...system];
      } else {
        conversation.push({ role: "user", content: line });
        let answer = "";
        for await (const piece of generator.stream(remembers ? conversation : line, sampling)) {
          process.stdout.write(toTerminal ? shown(piece) : piece);
          answer += piece;
        }
        process.stdout.write("\n");
        conversation.push({ role: "assistant", content: answer });
      }
      if (toTerminal) lines.prompt();
    }
  } finally {
    lines.close();
    generator.dispose();
  }
}
