import { text } from "node:stream/consumers";
import { Command, InvalidArgumentError, Option } from "commander";
import { parse } from "yaml";
import type { QuantizationConfigInput } from "../models/quantization.js";
import { UserError } from "../support/errors.js";
import { shown, tell } from "../support/plainText.js";

interface GenerateOptions {
  model: string;
  adapter?: string;
  quantization?: QuantizationConfigInput;
  prompt?: string;
  system?: string;
  raw?: true;
  max_new_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  do_sample?: true;
  seed?: number;
  use_cpu?: true;
  device?: "cpu" | "cuda";
}

/** `slimtune generate`: answers one prompt, as it is generated, on stdout. */
export function generateCommand(): Command {
  return new Command("generate")
    .description("answer a prompt with a model, or with a model and an adapter")
    .requiredOption("--model <folder>", "model folder in Hugging Face format, or a hub id")
    .option("--adapter <folder>", "PEFT adapter to put on the model")
    .option(
      "--quantization <options>",
      "the model's weights in 4 or 8 bits, as in a config file: '{load_in_4bit: true, bnb_4bit_quant_type: nf4}'",
      options,
    )
    .option("--prompt <text>", "what to answer (default: what is piped in)")
    .option("--system <text>", "system message of the conversation")
    .option("--raw", "go on from the prompt as it is, without the chat template")
    .option("--max_new_tokens <n>", "stop after this many tokens", numberIn({ whole: true, min: 1 }))
    .option("--do_sample", "draw tokens at random instead of taking the likeliest")
    .option("--temperature <x>", "above 1: more random, below 1: less", numberIn({ above: 0 }))
    .option(
      "--top_p <x>",
      "draw among the likeliest tokens that have this probability together",
      numberIn({ above: 0, max: 1 }),
    )
    .option("--top_k <n>", "draw among this many likeliest tokens (0: all)", numberIn({ whole: true, min: 0 }))
    .option("--seed <n>", "start of the random numbers", numberIn({ whole: true, min: 0 }))
    .option("--use_cpu", "compute on the CPU even where there is a GPU")
    .addOption(
      new Option("--device <device>", "where to compute; cuda fails where there is no GPU").choices(["cpu", "cuda"]),
    )
    .action(runGenerate);
}

/** Streams the answer to stdout. @throws UserError when there is no prompt, or for a model that cannot be used. */
async function runGenerate({
  model,
  adapter,
  quantization,
  prompt,
  system,
  raw,
  ...sampling
}: GenerateOptions): Promise<void> {
  if (system !== undefined && raw) {
    throw new UserError("--system needs the chat template, which --raw leaves out; give one of them");
  }
  const unused = (["temperature", "top_p", "top_k"] as const).filter((name) => sampling[name] !== undefined);
  if (unused.length > 0 && !sampling.do_sample) {
    const named = unused.map((name) => `--${name}`).join(", ");
    tell(`Note: no effect without --do_sample, which draws tokens at random: ${named}`);
  }
  const { resolveModel } = await import("../config/paths.js");
  const local = (option: string, value: string) => {
    const resolved = resolveModel(value, process.cwd());
    if ("problem" in resolved) throw new UserError(`${option}: ${resolved.problem}`);
    return resolved.value;
  };
  const source = {
    model: local("--model", model),
    ...(adapter === undefined ? {} : { adapter: local("--adapter", adapter) }),
    ...(quantization === undefined ? {} : { quantization }),
  };
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

async function pipedPrompt(): Promise<string> {
  if (process.stdin.isTTY) throw new UserError('no prompt: give --prompt "..." or pipe one in');
  const piped = (await text(process.stdin)).replace(/\r?\n$/, "");
  if (piped === "") throw new UserError('the prompt that was piped in is empty; give --prompt "..." or pipe one in');
  return piped;
}

function options(given: string): QuantizationConfigInput {
  let value: unknown;
  try {
    value = parse(given);
  } catch {
    value = given;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError("It must be names and values in braces: '{load_in_4bit: true}'.");
  }
  return value; // checked with the schema when the model is loaded
}

function numberIn(range: { whole?: boolean; min?: number; above?: number; max?: number }) {
  const {
    whole = false,
    min = Number.NEGATIVE_INFINITY,
    above = Number.NEGATIVE_INFINITY,
    max = Number.POSITIVE_INFINITY,
  } = range;
  return (given: string): number => {
    const value = Number(given);
    const fits = given.trim() !== "" && Number.isFinite(value) && value >= min && value > above && value <= max;
    if (fits && (!whole || Number.isSafeInteger(value))) return value;
    const limits = [
      Number.isFinite(min) ? `at least ${min}` : "",
      Number.isFinite(above) ? `above ${above}` : "",
      Number.isFinite(max) ? `at most ${max}` : "",
    ].filter((limit) => limit !== "");
    throw new InvalidArgumentError(`It must be a ${whole ? "whole " : ""}number ${limits.join(" and ")}.`);
  };
}
