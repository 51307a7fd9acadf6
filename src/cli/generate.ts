import { text } from "node:stream/consumers";
import { Command } from "commander";
import { UserError } from "../support/errors.js";
import { shown, tell } from "../support/plainText.js";
import {
  addModelOptions,
  addSamplingOptions,
  type ModelOptions,
  modelOf,
  type SamplingOptions,
  samplingOf,
} from "./modelOptions.js";

interface GenerateOptions extends ModelOptions, SamplingOptions {
  prompt?: string;
  system?: string;
  raw?: true;
}

/** `slimtune generate RUN`: answers one prompt, as it is generated, on stdout. */
export function generateCommand(): Command {
  const command = new Command("generate")
    .description("answer a prompt with a trained model")
    .option("--prompt <text>", "what to answer (default: what is piped in)")
    .option("--system <text>", "system message of the conversation")
    .option("--raw", "go on from the prompt as it is, without the chat template");
  return addSamplingOptions(addModelOptions(command)).action(async (_: unknown, options: GenerateOptions) =>
    runGenerate(command, options),
  );
}

/** Streams the answer to stdout. @throws UserError when there is no prompt, or for a model that cannot be used. */
async function runGenerate(command: Command, options: GenerateOptions): Promise<void> {
  const { prompt, system, raw, ...rest } = options;
  if (system !== undefined && raw) {
    throw new UserError("--system needs the chat template, which --raw leaves out; give one of them");
  }
  const sampling = samplingOf(rest);
  noteUnused(sampling);
  const source = await modelOf("generate", command, options);
  const question = prompt ?? (await pipedPrompt());
  const input =
    system === undefined
      ? { prompt: question, raw: raw === true }
      : {
          messages: [
            { role: "system", content: system },
            { role: "user", content: question },
          ],
        };
  // Loaded here, so that --help needs no native addon.
  const { generate } = await import("../generate/index.js");
  const toTerminal = process.stdout.isTTY === true; // a file or a pipe gets the answer as it is
  for await (const piece of generate({ ...source, ...input, ...sampling })) {
    process.stdout.write(toTerminal ? shown(piece) : piece);
  }
  process.stdout.write("\n");
}

/** Says which options of sampling change nothing. */
export function noteUnused(sampling: SamplingOptions): void {
  const unused = (["temperature", "top_p", "top_k"] as const).filter((name) => sampling[name] !== undefined);
  if (unused.length === 0 || sampling.do_sample) return;
  const named = unused.map((name) => `--${name}`).join(", ");
  tell(`Note: no effect without --do_sample, which draws tokens at random: ${named}`);
}

async function pipedPrompt(): Promise<string> {
  if (process.stdin.isTTY)
    throw new UserError('no prompt: give --prompt "..." or pipe one in; npx slimtune chat asks for one after another');
  const piped = (await text(process.stdin)).replace(/\r?\n$/, "");
  if (piped === "") throw new UserError('the prompt that was piped in is empty; give --prompt "..." or pipe one in');
  return piped;
}
